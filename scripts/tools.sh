#!/usr/bin/env bash
# Brings what the tests need beyond Rust and a C compiler: from Debian as root, otherwise it names the one command and fails.
# Tools that come from a package registry go, pinned, into target/tools. Nothing here is skipped.
#
#   scripts/tools.sh gate     strace, taskset, procps; cargo-machete
#   scripts/tools.sh go       Go; prints the folder of its binaries
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

MACHETE=0.9.2
GO=1.26.8

# debian COMMAND=PACKAGE …: every command is there afterwards, or the script ends.
debian() {
  local pair missing=()
  for pair in "$@"; do command -v "${pair%%=*}" >/dev/null || missing+=("${pair##*=}"); done
  [ ${#missing[@]} -eq 0 ] && return
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "installing ${missing[*]}"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >/dev/null
  else
    fail "missing: ${missing[*]}. Run this first: sudo apt-get install -y ${missing[*]}"
  fi
}

machete() {
  [ "$("$TOOLS/bin/cargo-machete" --version 2>/dev/null)" = "$MACHETE" ] && return
  say "installing cargo-machete $MACHETE"
  cargo install cargo-machete --version "$MACHETE" --locked --quiet --debug --root "$TOOLS" --target-dir "$TOOLS/build"
  rm -rf "$TOOLS/build"
}

# Debian 12's Go is too old for buf, but can fetch the pinned toolchain as a Go module.
go_toolchain() {
  local go
  for go in go /usr/local/go/bin/go; do
    if command -v "$go" >/dev/null && "$go" version | grep -qE 'go1\.(2[6-9]|[3-9][0-9])'; then dirname "$(command -v "$go")"; return; fi
  done
  local root="$TOOLS/go$GO"
  if [ ! -x "$root/bin/go" ]; then
    debian go=golang-go 1>&2
    say "fetching Go $GO" 1>&2
    local module="golang.org/toolchain@v0.0.1-go$GO.linux-$(dpkg --print-architecture)"
    local from
    from=$(GOFLAGS=-mod=mod go mod download -json "$module" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
    [ -n "$from" ] || fail "could not fetch $module from the Go module proxy"
    cp -r "$from" "$root.part" && chmod -R u+w "$root.part" && chmod +x "$root.part"/bin/* "$root.part"/pkg/tool/*/*
    # A module holds no other module, so the toolchain's own are stored under another name.
    find "$root.part/src" -name _go.mod -execdir mv _go.mod go.mod \;
    mv "$root.part" "$root"
  fi
  echo "$root/bin"
}

case "${1:-}" in
  gate)
    debian strace=strace taskset=util-linux setsid=util-linux cc=gcc
    machete
    ;;
  go) go_toolchain ;;
  *) fail "usage: scripts/tools.sh gate|go" ;;
esac
