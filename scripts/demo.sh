#!/usr/bin/env bash
# The demo: a real build's output goes through a fresh gateway and comes back twice, live and from history, and both are
# compared, line by line, with a copy that never saw the gateway. Then two agents run a pipeline of six jobs, followed live.
# Ends with 0 if all lines are the same and the pipeline went as its definition says, otherwise with 1.
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
gateway='' live='' shown='' agents=''
cleanup() {
  local process
  for process in $agents $live $shown $gateway; do
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

say "== two agents run docs/pipeline.yaml: a diamond, a condition, a retry"
for role in build test; do
  "$arcgate" agent --server "$grpc" --name "$role-agent" --labels "role=$role" --state "$work/$role" >"$work/$role.log" 2>&1 &
  agents="$agents $!"
done
pipeline=$("$arcgate" pipeline create docs/pipeline.yaml --server "$grpc")
followed=$("$arcgate" pipeline trigger "$pipeline" --server "$grpc" --var VERSION=2.0)
if ! timeout 300 "$arcgate" run watch "$followed" --server "$grpc" --http "$http" --plain | tee "$work/run"; then
  cat "$work"/build.log "$work"/test.log >&2
  fail "the pipeline did not succeed"
fi
# What the definition says of this run, and what was shown of it.
expect() {
  if ! grep -qE "$1" "$work/run"; then
    echo "the run did not show: $2"
    outcome=1
  fi
}
expect 'fetch/sources \| fetching version 2\.0$' "the run's own variable"
expect 'check/tests \| test 201 \.\.\. FAILED, this once$' "the first try, which fails"
expect 'check/tests \| test 201 \.\.\. ok$' "the second try, which succeeds"
expect 'publish/upload \| done$' "the job whose condition holds"
if grep -q 'announce/mail |' "$work/run"; then
  echo "the job whose condition does not hold has run"
  outcome=1
fi
for step in compile/objects:500 fetch/sources:301; do
  shown_lines=$(grep -c "^${step%:*} | " "$work/run" || true)
  [ "$shown_lines" = "${step#*:}" ] || { echo "$step: $shown_lines lines were shown"; outcome=1; }
done
"$arcgate" run list --server "$grpc"
exit $outcome
