#!/bin/sh
# Compiles the example push-event: ./build.sh OUT_BINARY
set -eu
[ $# -eq 1 ] || { echo "usage: $0 OUT_BINARY" >&2; exit 2; }
case $1 in
/*) out=$1 ;;
*) out=$PWD/$1 ;;
esac
cd "$(dirname "$0")/.."
./buf.sh
PATH=$PATH:/usr/local/go/bin
go build -o "$out" ./examples/push-event
