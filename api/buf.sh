#!/bin/sh
# Checks the contract in this folder and generates its Go code (gen/go, not committed):
#   buf lint        style, and a comment on everything
#   buf breaking    against baseline.binpb: no change that an existing agent or client could notice
#   buf generate    see buf.gen.yaml
# Installs the three tools it needs, in fixed versions, into .services/go/bin of the project. Needs Go.
#
# After a release that adds to the contract: buf build --exclude-source-info -o baseline.binpb
set -eu
cd "$(dirname "$0")"

buf=v1.75.0
protoc_gen_go=v1.36.12
protoc_gen_go_grpc=v1.6.2

bin=$(cd .. && pwd)/.services/go/bin
PATH=$bin:$PATH:/usr/local/go/bin
export PATH

# ensure TOOL VERSION PACKAGE: unless that version is there. A mark says so, since not all tools tell their version.
ensure() {
    [ -x "$bin/$1" ] && [ -e "$bin/.$1@$2" ] && return
    echo "api/buf.sh: installing $1 $2 into $bin" >&2
    rm -f "$bin/.$1@"*
    if ! command -v go >/dev/null || ! GOBIN=$bin go install "$3@$2"; then
        cat >&2 <<END
api/buf.sh: $1 is not installed: that takes Go, 1.21 or newer, and its module proxy. To install Go, as root:
  curl -fsSL https://go.dev/dl/go1.26.8.linux-\$(dpkg --print-architecture).tar.gz | tar -C /usr/local -xz
END
        exit 1
    fi
    touch "$bin/.$1@$2"
}
ensure buf $buf github.com/bufbuild/buf/cmd/buf
ensure protoc-gen-go $protoc_gen_go google.golang.org/protobuf/cmd/protoc-gen-go
ensure protoc-gen-go-grpc $protoc_gen_go_grpc google.golang.org/grpc/cmd/protoc-gen-go-grpc

buf lint
buf breaking --against baseline.binpb
buf generate
