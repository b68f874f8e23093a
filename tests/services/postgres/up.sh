#!/usr/bin/env bash
# Starts a PostgreSQL server on 127.0.0.1, with its data in FOLDER, and waits until it answers.
#
#   tests/services/postgres/up.sh FOLDER
set -euo pipefail
service=postgres
. "${BASH_SOURCE[0]%/*}/../lib.sh"

bin=$("$root/scripts/tools.sh" postgres)
mkdir -p "$1" && folder=$(cd "$1" && pwd)
pid=$(pid_of "$folder") && fail "already runs in $folder, as process $pid"
[ -s "$folder/port" ] || free_ports 1 >"$folder/port"
port=$(cat "$folder/port")

# It refuses to run as root: then it runs as the system's user for it, or as nobody, who owns only the data.
as=()
if [ "$(id -u)" = 0 ]; then
  user=$(id -un postgres 2>/dev/null || echo nobody)
  as=(setpriv --reuid "$user" --regid "$(id -g "$user")" --clear-groups --)
  mkdir -p "$folder/data" && chown "$user" "$folder/data"
  # It has to reach its folder, which others may not list.
  "${as[@]}" test -x "$folder" || chmod o+x "$folder"
  "${as[@]}" test -x "$folder" || fail "the user $user cannot reach $folder; choose a folder below /tmp"
fi
if [ ! -f "$folder/data/PG_VERSION" ]; then
  (cd / && LC_ALL=C "${as[@]}" "$bin/initdb" --pgdata "$folder/data" --username arcgate --auth trust --encoding UTF8 --no-sync --no-instructions) \
    >"$folder/init.log" 2>&1 || { tail -n 20 "$folder/init.log" >&2 && fail "the folder $folder could not be made a database's"; }
fi
# Its own checkpoints and logs are kept small; commits reach the disk as they would for users.
(cd / && LC_ALL=C exec setsid "${as[@]}" "$bin/postgres" -D "$folder/data" -c listen_addresses=127.0.0.1 -c port="$port" \
  -c unix_socket_directories= -c max_connections=200 -c shared_buffers=32MB) >>"$folder/server.log" 2>&1 </dev/null &
echo $! >"$folder/pid"
answers() { "$bin/pg_isready" --quiet --host 127.0.0.1 --port "$port"; }
wait_ready "$folder" "$folder/server.log" answers
echo "pid=$(cat "$folder/pid") url=postgres://arcgate@127.0.0.1:$port log=$folder/server.log"
