#!/usr/bin/env bash
# Lints the protos, checks them against the baseline, generates the Go clients: api/buf.sh, with a Go that it can use.
#
#   scripts/buf.sh                  the checks and the generated code
#   scripts/buf.sh --example OUT    and the example client in Go, compiled
set -euo pipefail
cd "$(dirname "$0")/.."

go=$(scripts/tools.sh go)
export PATH="$go:$PATH"
case "${1:-}" in
  '') exec api/buf.sh ;;
  --example) exec api/examples/build.sh "$2" ;;
  *) echo "usage: scripts/buf.sh [--example OUT]" >&2 && exit 2 ;;
esac
