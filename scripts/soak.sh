#!/usr/bin/env bash
# What takes too long for the gate: the randomised and the heavy tests, many times over. Writes tests/SOAK.md.
#
#   scripts/soak.sh [SCALE]    how many times the gate's amounts, default 10
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

scale=${1:-10}
scripts/tools.sh gate
rows=()
failed=0
# stage NAME COMMAND…
stage() {
  local name=$1 begin=$SECONDS outcome=passed
  shift
  say "== $name"
  "$@" || { outcome=FAILED && failed=1; }
  rows+=("| $name | $((SECONDS - begin)) s | $outcome |")
}

export ARCGATE_E2E_SCALE=$scale PROPTEST_CASES=$((scale * 256))
stage "property tests, $PROPTEST_CASES cases each" cargo test --quiet --locked --workspace --lib
stage "I2: $((200 * scale)) rounds of SIGKILL" cargo test --quiet --locked --workspace --test e2e -- i2_no_acked
stage "I7: $((2 * scale)) million lines, 50 readers" cargo test --quiet --locked --workspace --test e2e -- i7_every
stage "I6: drops" cargo test --quiet --locked --workspace --test e2e -- i6_

{
  printf '# The last soak\n\nWritten by `make soak` (%s times the amounts of `make test`).\n\n' "$scale"
  printf -- '- date: %s, commit: %s\n- machine: %s cores, Linux %s\n\n' "$(date -u +%Y-%m-%d)" "$(git rev-parse --short HEAD)" "$(nproc)" "$(uname -r)"
  printf '| what | time | |\n|---|--:|---|\n'
  printf '%s\n' "${rows[@]}"
} >tests/SOAK.md
exit $failed
