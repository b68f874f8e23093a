#!/usr/bin/env bash
# Builds, starts a gateway in the foreground on ./arcgate-data (or $ARCGATE_STORE__PATH) and says how to use it. Ctrl-C stops it.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

scripts/tools.sh build
cargo build --release --bin arcgate
arcgate=$TARGET/release/arcgate
data=${ARCGATE_STORE__PATH:-arcgate-data}
rm -f "$data/addresses.json"

# Prints the help once the gateway listens; the gateway itself keeps the terminal.
(
  until_true 30 test -s "$data/addresses.json" || exit 0
  grpc=$(address "$data" grpc) http=$(address "$data" http)
  cat >&2 <<HELP

Arcgate is running: gRPC on $grpc, HTTP and WebSocket on $http, data in $data.

  push a build     $arcgate push --step-run hello -- make help
  read it          $arcgate tail hello
  what it does     curl http://$http/metrics
  stop             Ctrl-C

HELP
) &
exec "$arcgate" serve
