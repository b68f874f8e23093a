#!/usr/bin/env bash
# Ends what up.sh has started in FOLDER: in order, or with KILL as a crash would.
#
#   tests/services/kafka/down.sh FOLDER [KILL]
set -euo pipefail
service=kafka
. "${BASH_SOURCE[0]%/*}/../lib.sh"
if [ -d "$1" ]; then down "$(cd "$1" && pwd)" "${2:-TERM}"; fi
