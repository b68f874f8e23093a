#!/usr/bin/env bash
# Loads a release build over real sockets, the gateway on core 0 and the load on the others, and writes load-tests/RESULTS.md.
# The machine should do nothing else meanwhile.
#
#   scripts/load.sh [SECONDS]    of each scenario, default 20
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

seconds=${1:-20}
scripts/tools.sh build
cargo build --release --locked --workspace --bins
load=$TARGET/release/arcgate-load
results=load-tests/RESULTS.md

# What is measured, in the order of the table.
scenarios=(
  "logs"
  "logs --uncounted"
  "logs --push --uncounted"
  "logs --compression none"
  "logs --batch 100"
  "logs --rate 1000000"
  "events"
  "events --rate 20000"
  "tail --streams 50 --rate 100000"
  "tail --streams 50 --rate 1000"
)

# The control plane; its own numbers, which are those of the aims.
scenarios+=("control")

# The sinks: everything twice, by the gateway and by the client library alone, on the same service, which leaves the gateway's core
# to it. There are enough records that what waits for a batch to be full or old enough, at the end, hardly counts.
others=0
[ "$(nproc)" -eq 1 ] || others=1-$(($(nproc) - 1))
services=$(mktemp -d "$TARGET/load-services-XXXXXX")
services_down() {
  tests/services/kafka/down.sh "$services/kafka" KILL
  tests/services/clickhouse/down.sh "$services/clickhouse" KILL
  rm -rf "$services"
}
trap services_down EXIT
taskset -c "$others" tests/services/kafka/up.sh "$services/kafka" >&2
taskset -c "$others" tests/services/clickhouse/up.sh "$services/clickhouse" >&2
kafka=127.0.0.1:$(cat "$services/kafka/port")
clickhouse=http://127.0.0.1:$(cat "$services/clickhouse/port")
for what in " --lines 5000000" " --events 1000000"; do
  scenarios+=(
    "sinks --kafka $kafka$what"
    "alone --kafka $kafka$what"
    "sinks --clickhouse $clickhouse$what"
    "alone --clickhouse $clickhouse$what"
    "sinks --kafka $kafka --clickhouse $clickhouse$what"
    "alone --kafka $kafka --clickhouse $clickhouse$what"
  )
done
# A few minutes, most of them for making 100 million lines: 2 GB in ClickHouse.
scenarios+=("replay --clickhouse $clickhouse")

rows=()
for scenario in "${scenarios[@]}"; do
  say "== arcgate-load $scenario"
  # Word splitting is meant: a scenario is a list of arguments.
  # shellcheck disable=SC2086
  case "$scenario" in
    # On one core, as the gateway.
    alone*) rows+=("$(taskset -c 0 "$load" $scenario)") ;;
    replay*)
      # A reader has a core's worth of work, too: the engine takes what there is.
      taskset --all-tasks --cpu-list --pid "0-$(($(nproc) - 1))" "$(cat "$services/clickhouse/pid")" >/dev/null
      rows+=("$("$load" $scenario --gateway "$TARGET/release/arcgate" --disk "$TARGET")")
      ;;
    sinks*) rows+=("$("$load" $scenario --gateway "$TARGET/release/arcgate" --disk "$TARGET")") ;;
    *) rows+=("$("$load" $scenario --seconds "$seconds" --gateway "$TARGET/release/arcgate" --disk "$TARGET")") ;;
  esac
done

processor=$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1)
memory=$(awk '/^MemTotal/ { printf "%.0f GB", $2 / 1e6 }' /proc/meminfo)
disk=$(df --output=fstype "$TARGET" | tail -1)
{
  cat <<HEAD
# What the gateway does under load

Written by \`make load\`: see [scripts/load.sh](../scripts/load.sh). The gateway has core 0 for itself, the load and
the services it delivers to the other cores; lines are those of a build, 121 bytes on average. Latencies run from send to ack; with a rate from when a batch was due to its ack; of \`tail\`
from when a line was due to its arrival at the reader. With a window of unanswered batches and no rate, latency is the window's making.

The rows of sinks count until the last record is confirmed: of lines from the first push on, of events from when a gateway is
ready in whose store they wait, since accepting events takes longer than delivering them. "alone" are ready-made records by the client library
without a gateway, on the gateway's core, in batches of the same size; its processor time is that process's. The aim is 80% of that:
the services, not the gateway, should be the limit. What is stored is bytes a record on disk: in the
gateway's logs, without the index, and in ClickHouse's table, before the last merges. "First chunk" and "Replay" are history by a
gateway whose own store is empty: from connecting to the first lines on the screen, each step run once; and the whole of a long
step run, in turns with the crate \`clickhouse\` alone, which reads the same columns in one query (the aim is 70% of that); for these
ClickHouse has all cores, the gateway's too. The engine made those lines itself.

Of the control plane: from when a trigger was due to its answer; from an agent's report that a step run is over to its next one (aim:
p99 under 50 ms); from an agent's report to whoever watches the step run over WebSocket (aim: p99 under 20 ms). The aim for heartbeats is under 5% of a core.

- date: $(date -u +%Y-%m-%d), commit: $(git rev-parse --short HEAD)$(git diff --quiet HEAD -- . ":!$results" || echo " and changes")
- machine: $processor, $(nproc) cores, $memory, $disk, Linux $(uname -r)
- each scenario: $seconds s

HEAD
  "$load" head
  printf '%s\n' "${rows[@]}"
  printf '\nThe commands, in that order, each with `--seconds %s --gateway target/release/arcgate`:\n\n```sh\n' "$seconds"
  printf 'arcgate-load %s\n' "${scenarios[@]}"
  printf '```\n'
} >"$results"
say "written: $results"
