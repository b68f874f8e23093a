#!/usr/bin/env bash
# Brings what the tests need beyond Rust and a C compiler: from Debian as root, otherwise it names the one command and fails.
# Tools that come from a package registry go, pinned, into target/tools. Nothing here is skipped.
#
#   scripts/tools.sh build        what the build needs beside Rust: a C and C++ compiler, make, OpenSSL, zlib
#   scripts/tools.sh gate         that, and strace, taskset; cargo-machete
#   scripts/tools.sh go           Go; prints the folder of its binaries
#   scripts/tools.sh kafka        a Kafka broker and kcat; prints the folder of its jars
#   scripts/tools.sh clickhouse   the ClickHouse engine; prints the folder of its Python environment
#   scripts/tools.sh postgres     a PostgreSQL server; prints the folder of its binaries
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

MACHETE=0.9.2
GO=1.26.8

# debian COMMAND=PACKAGE …: every command is there afterwards, or the script ends. What is no command is looked for in other ways:
# NAME.pc is a library for pkg-config, NAME.py a module of Python.
debian() {
  local pair missing=()
  for pair in "$@"; do
    case "$pair" in
      *.pc=*) pkg-config --exists "${pair%%.pc=*}" 2>/dev/null ;;
      *.py=*) python3 -c "import ${pair%%.py=*}" 2>/dev/null ;;
      *) command -v "${pair%%=*}" >/dev/null ;;
    esac || missing+=("${pair##*=}")
  done
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

build() { debian cc=gcc c++=g++ make=make pkg-config=pkg-config openssl.pc=libssl-dev zlib.pc=zlib1g-dev; }

# once FOLDER COMMAND…: has the command fill a folder that is not there yet; of several at a time only one does.
once() {
  local folder=$1
  shift
  [ -d "$folder" ] && return
  exec 9>"$folder.lock"
  flock 9
  if [ ! -d "$folder" ]; then
    rm -rf "$folder.part"
    "$@" "$folder.part" 1>&2
    mv "$folder.part" "$folder"
  fi
  exec 9>&-
}

# The folder of a service's tools is named after the checksum of what pins them, so that another pin is another folder.
pinned() { echo "$TOOLS/$1-$(sha256sum "$2" | cut -c 1-12)"; }

fetch_kafka() {
  say "fetching Kafka: 50 MB"
  mvn -q -B -f tests/services/kafka/pom.xml org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$1"
}

# Only its bin/python is used: that survives the folder's being renamed, other programs of the environment would not.
fetch_clickhouse() {
  say "fetching the ClickHouse engine: 600 MB once it is unpacked"
  python3 -m venv "$1"
  "$1/bin/python" -m pip install --quiet --no-cache-dir --no-deps --requirement tests/services/clickhouse/requirements.txt
}

# The newest PostgreSQL of the system, if it has one.
installed_postgres() {
  local server
  server=$(ls -d /usr/lib/postgresql/*/bin/postgres 2>/dev/null | sort -V | tail -n 1)
  [ -n "$server" ] || server=$(command -v postgres) || return
  dirname "$(readlink -f "$server")"
}

# Debian's packages, unpacked without being installed: for that nobody needs to be root.
fetch_postgres() {
  say "fetching PostgreSQL from Debian: 20 MB"
  local package
  package=$(apt-cache depends postgresql | sed -n 's/.*Depends: \(postgresql-[0-9]*\)$/\1/p')
  [ -n "$package" ] || fail "Debian's list of packages does not know PostgreSQL. Run this first: sudo apt-get update"
  mkdir -p "$1/packages"
  (cd "$1/packages" && apt-get download -qq "$package" "${package/postgresql/postgresql-client}" libpq5)
  for package in "$1"/packages/*.deb; do dpkg --extract "$package" "$1"; done
  rm -r "$1/packages"
}

case "${1:-}" in
  build) build ;;
  gate)
    build
    debian strace=strace taskset=util-linux setsid=util-linux
    machete
    ;;
  go) go_toolchain ;;
  kafka)
    debian java=openjdk-17-jre-headless mvn=maven kcat=kcat openssl=openssl python3=python3 setsid=util-linux 1>&2
    folder=$(pinned kafka tests/services/kafka/pom.xml)
    once "$folder" fetch_kafka
    echo "$folder"
    ;;
  clickhouse)
    debian python3=python3 venv.py=python3-venv ensurepip.py=python3-venv setsid=util-linux 1>&2
    folder=$(pinned clickhouse tests/services/clickhouse/requirements.txt)
    once "$folder" fetch_clickhouse
    echo "$folder"
    ;;
  postgres)
    debian setpriv=util-linux setsid=util-linux python3=python3 1>&2
    folder=$(installed_postgres || true)
    if [ -z "$folder" ] && [ "$(id -u)" = 0 ]; then
      # It will run as another user, who may not reach what root unpacks.
      debian pg_lsclusters=postgresql 1>&2
      folder=$(installed_postgres)
    elif [ -z "$folder" ]; then
      once "$TOOLS/postgres" fetch_postgres
      folder=$(dirname "$(ls "$TOOLS"/postgres/usr/lib/postgresql/*/bin/postgres)")
    fi
    echo "$folder"
    ;;
  *) fail "usage: scripts/tools.sh build|gate|go|kafka|clickhouse|postgres" ;;
esac
