#!/usr/bin/env bash
# Ends what up.sh has started in FOLDER: in order (connections are closed), or with KILL as a crash would.
#
#   tests/services/postgres/down.sh FOLDER [KILL]
set -euo pipefail
service=postgres
. "${BASH_SOURCE[0]%/*}/../lib.sh"
# PostgreSQL's TERM waits for clients to go, its INT does not.
if [ -d "$1" ]; then down "$(cd "$1" && pwd)" "${2:-INT}"; fi
