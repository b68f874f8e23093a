#!/usr/bin/env bash
# Runs a command while a PostgreSQL server of its own runs, whose address is in ARCGATE_TEST_POSTGRES: the control plane's tests then run
# on it too. The server and its folder go with this script, however it ends.
#
#   scripts/with-postgres.sh COMMAND…
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

folder=$(mktemp -d "${TMPDIR:-/tmp}/arcgate-postgres.XXXXXX")
# It lives as long as the pipe to it is open.
coproc HOLD { tests/services/hold.sh postgres "$folder"; }
holder=$HOLD_PID
echo start >&"${HOLD[1]}"
read -r answer <&"${HOLD[0]}" || answer=failed
url=$(sed -n 's/^ok .*url=\([^ ]*\).*/\1/p' <<<"$answer")
[ -n "$url" ] || fail "PostgreSQL did not start; what it said stands above"

outcome=0
ARCGATE_TEST_POSTGRES=$url "$@" || outcome=$?
eval "exec ${HOLD[1]}>&-"
wait "$holder" || true
exit "$outcome"
