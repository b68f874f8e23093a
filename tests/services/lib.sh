# What the services' scripts share. Sourced by them with `service` set; defines, and does nothing else.
#
# A service lives in one folder: `pid`, `port`, its log and its data. `up.sh FOLDER` starts it there, on the port it had before or
# on a free one, waits until it answers, and prints one line; `down.sh FOLDER [KILL]` ends it.

root=$(cd "${BASH_SOURCE[0]%/*}/../.." && pwd)

say() { printf '%s\n' "$*" >&2; }
fail() {
  say "$service: $*"
  exit 1
}

# pid_of FOLDER: the service's process, if it runs. A process that only has the same number is not taken for it.
pid_of() {
  local pid
  pid=$(cat "$1/pid" 2>/dev/null) || return 1
  tr '\0' '\n' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF "$1/" && echo "$pid"
}

# free_ports COUNT: the first of as many ports in a row that are free. Below the range from which the system takes the ports of
# outgoing connections: one of those could take the port while the service is down, or a client could connect to itself.
free_ports() {
  python3 - "$1" <<'PYTHON'
import contextlib, random, socket, sys
for _ in range(200):
    first = random.randrange(12000, 32000)
    with contextlib.ExitStack() as held:
        try:
            for port in range(first, first + int(sys.argv[1])):
                held.enter_context(socket.socket()).bind(("127.0.0.1", port))
        except OSError:
            continue
    print(first)
    sys.exit()
sys.exit("no free ports")
PYTHON
}

# wait_ready FOLDER LOG COMMAND…: until the command succeeds, for a minute, or until the service has ended.
wait_ready() {
  local folder=$1 log=$2 deadline=$((SECONDS + 60))
  shift 2
  until "$@"; do
    if ! pid_of "$folder" >/dev/null || [ "$SECONDS" -ge "$deadline" ]; then
      tail -n 30 "$log" >&2
      down "$folder" KILL
      fail "did not get ready in $folder; the end of its log stands above"
    fi
    sleep 0.1
  done
}

# has_ended PID: with all its threads, so that its files and ports are free. Nobody may ever ask for its exit code (in a container
# without an init): then it stays in the table of processes as a zombie.
has_ended() {
  [ -d "/proc/$1" ] || return 0
  grep -q '^State:.[ZX]' "/proc/$1/status" 2>/dev/null && [ "$(ls "/proc/$1/task" 2>/dev/null | wc -l)" -le 1 ]
}

# down FOLDER [KILL]: asks it to end and waits half a minute for that, or kills it as a crash would.
down() {
  local pid signal=${2:-TERM}
  if pid=$(pid_of "$1"); then
    kill -"$signal" "$pid" 2>/dev/null || true
    for _ in $(seq 300); do
      has_ended "$pid" && break
      sleep 0.1
    done
    has_ended "$pid" || kill -KILL "$pid" 2>/dev/null || true
  fi
  rm -f "$1/pid"
}
