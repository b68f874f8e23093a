#!/usr/bin/env bash
# Runs a service for a test, and ends it with the test, however that ends: what it is told comes in on standard input, and once
# that is closed the service is killed and its folder removed.
#
#   tests/services/hold.sh kafka|clickhouse|postgres FOLDER
#
# It takes the words `start`, `stop` and `kill`, one a line, and answers each with one line: `ok …` or `failed`.
set -uo pipefail
service=$1 folder=$2
. "${BASH_SOURCE[0]%/*}/lib.sh"
here=$root/tests/services/$service

mkdir -p "$folder" && folder=$(cd "$folder" && pwd)
trap : INT TERM HUP
while read -r word; do
  case "$word" in
    start) answer=$("$here/up.sh" "$folder" </dev/null) ;;
    stop) answer=$("$here/down.sh" "$folder" </dev/null) ;;
    kill) answer=$("$here/down.sh" "$folder" KILL </dev/null) ;;
    *) false ;;
  esac && echo "ok $answer" || echo failed
done
"$here/down.sh" "$folder" KILL
rm -rf "$folder"
