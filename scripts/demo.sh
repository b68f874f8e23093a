#!/usr/bin/env bash
# The demo: a real build's output goes through a fresh gateway and comes back twice, live and from history, and both are
# compared, line by line, with a copy that never saw the gateway. Ends with 0 if all three are the same, otherwise with 1.
#
#   ARCGATE_BIN           use this binary instead of building one
#   ARCGATE_DEMO_COMMAND  push this shell command's output instead of a build's
#   ARCGATE_DEMO_PLANT    missing, doubled or swapped: spoil one received line, to see that the comparison finds it
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

arcgate=${ARCGATE_BIN:-}
plant=${ARCGATE_DEMO_PLANT:-}
command=${ARCGATE_DEMO_COMMAND:-}
# What is set for another gateway is not meant for this one.
for name in ${!ARCGATE_@}; do unset "$name"; done

if [ -z "$arcgate" ]; then
  say "== building arcgate"
  scripts/tools.sh build
  cargo build --release --bin arcgate
  arcgate=$TARGET/release/arcgate
fi
arcgate=$(realpath "$arcgate")

work=$(mktemp -d "${TMPDIR:-/tmp}/arcgate-demo.XXXXXX")
gateway='' live='' shown=''
cleanup() {
  local process
  for process in $live $shown $gateway; do
    { kill "$process" && wait "$process"; } 2>/dev/null || true
  done
  rm -rf "$work"
}
trap cleanup EXIT
if [ -z "$command" ]; then
  # A crate with its dependencies, from nothing, and cheaply: it is the output that matters.
  command="cargo build --verbose --verbose --locked -p arcgate-load --target-dir '$work/build' --config 'profile.dev.package.\"*\".opt-level=0'"
fi

say "== starting a gateway on a fresh data folder"
export ARCGATE_STORE__PATH=$work/data ARCGATE_GRPC__LISTEN=127.0.0.1:0 ARCGATE_HTTP__LISTEN=127.0.0.1:0 ARCGATE_SPOOL=$work/spool
"$arcgate" serve >"$work/gateway.log" 2>&1 &
gateway=$!
ready() { [ -s "$work/data/addresses.json" ] || ! kill -0 "$gateway" 2>/dev/null; }
if ! until_true 30 ready || ! kill -0 "$gateway" 2>/dev/null; then
  cat "$work/gateway.log" >&2
  fail "the gateway did not start"
fi
grpc=http://$(address "$work/data" grpc)
http=http://$(address "$work/data" http)

run=demo-$$
say "== arcgate push runs a build; what arcgate tail shows live follows"
mkfifo "$work/pipe"
tee "$work/live" <"$work/pipe" &
shown=$!
timeout 1800 "$arcgate" tail "$run" --server "$http" --give-up 5s >"$work/pipe" &
live=$!
code=0
# The copy is made by tee inside the pushed command: the gateway has no part in it.
"$arcgate" push --server "$grpc" --step-run "$run" --drain 60s -- \
  bash -c "set -o pipefail; { $command; } 2>&1 | tee '$work/copy'" >/dev/null || code=$?
[ "$code" = 0 ] || fail "the pushed command failed with $code"
wait "$live" || fail "arcgate tail failed"
wait "$shown"

say "== arcgate tail --no-follow: the same from history"
"$arcgate" tail "$run" --server "$http" --no-follow >"$work/history"

# Two neighbours that differ, somewhere behind the hundredth line.
place() { awk 'NR > 100 && $0 != last { print NR - 1; exit } { last = $0 }' "$work/live"; }
case "$plant" in
  '') ;;
  missing) sed -i "$(place)d" "$work/live" ;;
  doubled) sed -i "$(place)p" "$work/live" ;;
  swapped) sed -i "$(place){h;d};$(($(place) + 1)){G}" "$work/live" ;;
  *) fail "ARCGATE_DEMO_PLANT must be missing, doubled or swapped" ;;
esac

lines=$(wc -l <"$work/copy")
outcome=0
for received in live history; do
  if cmp -s "$work/copy" "$work/$received"; then
    printf '%-8s %s lines, every one once and in order\n' "$received:" "$lines"
  else
    printf '%-8s differs from what the command wrote:\n' "$received:"
    diff "$work/copy" "$work/$received" | head -20 || true
    outcome=1
  fi
done
if [ "$lines" -lt 1000 ]; then
  echo "only $lines lines: that is no demo"
  outcome=1
fi
exit $outcome
