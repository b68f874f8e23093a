#!/usr/bin/env bash
# Starts the ClickHouse engine behind the ClickHouse HTTP interface on 127.0.0.1, with its data in FOLDER, and waits until it answers.
#
#   tests/services/clickhouse/up.sh FOLDER
#
#   CLICKHOUSE_USER   "name=password" that clients have to give; without it user `default` with no password
#   CLICKHOUSE_TLS    a file (PEM) with a key and its certificate: answers over TLS as well, on a port of its own
set -euo pipefail
service=clickhouse
. "${BASH_SOURCE[0]%/*}/../lib.sh"
here=$root/tests/services/clickhouse

python=$("$root/scripts/tools.sh" clickhouse)/bin/python
mkdir -p "$1" && folder=$(cd "$1" && pwd)
pid=$(pid_of "$folder") && fail "already runs in $folder, as process $pid"
[ -s "$folder/port" ] || free_ports 2 >"$folder/port"
port=$(cat "$folder/port")
tls_port=$((port + 1))

user=()
if [ -n "${CLICKHOUSE_USER:-}" ]; then user=("${CLICKHOUSE_USER%%=*}" "${CLICKHOUSE_USER#*=}"); fi
CLICKHOUSE_TLS_PORT=$tls_port TZ=UTC setsid "$python" "$here/front.py" "$folder/data" "$port" "${user[@]}" >>"$folder/engine.log" 2>&1 </dev/null &
echo $! >"$folder/pid"
answers() { [ "$(python3 -c "import urllib.request as r; print(r.urlopen('http://127.0.0.1:$port/ping', timeout=2).read())" 2>/dev/null)" = "b'Ok.\\n'" ]; }
wait_ready "$folder" "$folder/engine.log" answers
echo "pid=$(cat "$folder/pid") url=http://127.0.0.1:$port tls=https://127.0.0.1:$tls_port log=$folder/engine.log"
