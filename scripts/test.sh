#!/usr/bin/env bash
# The gate: every check, in order of cost, with the seconds of each. It stops at the first that fails and never skips one.
#
#   scripts/test.sh          everything
#   scripts/test.sh core     all but what needs Java, Python or Go: the sinks on real services, the Go clients, PostgreSQL
#   scripts/test.sh lint     the stages before the tests
set -euo pipefail
what=${1:-all}
case "$what" in all | core | lint) ;; *) echo "usage: scripts/test.sh [core|lint]" >&2 && exit 2 ;; esac
cd "$(dirname "$0")/.."
. scripts/lib.sh

# Always the whole workspace, so that features are the same everywhere and nothing is compiled twice; warnings are made errors
# without touching RUSTFLAGS, for the same reason.
CLIPPY=(cargo clippy --quiet --workspace --all-targets --locked -- -D warnings)
TEST=(cargo test --quiet --workspace --locked)

report=()
trap 'printf "\n%s\n" "seconds per stage"; printf "%s\n" "${report[@]}"' EXIT

# stage BOUND NAME COMMAND…: a stage that passes its bound (seconds) is ended and fails.
stage() {
  local bound=$1 name=$2 begin=$SECONDS outcome=ok
  shift 2
  printf '\n== %s\n' "$name"
  timeout --kill-after=10 "$bound" "$@" || outcome=FAILED
  report+=("$(printf '%6d  %-30s %s' $((SECONDS - begin)) "$name" "$outcome")")
  [ "$outcome" = ok ] || exit 1
}

stage 600 'tools' scripts/tools.sh gate
stage 60 'format' cargo fmt --all --check
stage 120 'unused dependencies' "$TOOLS/bin/cargo-machete" .
stage 1500 'lints' "${CLIPPY[@]}"
stage 600 'docs' env RUSTDOCFLAGS='-D warnings' cargo doc --quiet --workspace --no-deps --locked
[ "$what" = lint ] && exit 0

stage 1500 'compile the tests' "${TEST[@]}" --no-run
if [ "$what" = core ]; then
  stage 480 'unit and property tests' "${TEST[@]}" --lib --bins
else
  stage 120 'PostgreSQL' scripts/tools.sh postgres
  stage 480 'unit and property tests' scripts/with-postgres.sh "${TEST[@]}" --lib --bins
fi
stage 120 'examples in docs' "${TEST[@]}" --doc
stage 300 'contract, allocations, policy' "${TEST[@]}" --test api --test 'allocations*' --test policy
if [ "$what" = core ]; then
  stage 1200 'end-to-end tests, core' "${TEST[@]}" --test e2e -- --skip sinks:: --skip clickhouse:: --skip clickhouse_replay:: --skip go_client::
  exit 0
fi
stage 600 'buf and Go clients' scripts/buf.sh
stage 600 'Kafka' scripts/tools.sh kafka
stage 600 'ClickHouse' scripts/tools.sh clickhouse
stage 1800 'end-to-end tests' "${TEST[@]}" --test e2e
