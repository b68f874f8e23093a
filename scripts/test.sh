#!/usr/bin/env bash
# The gate: every check, in order of cost, with the seconds of each. It stops at the first that fails and never skips one.
#
#   scripts/test.sh          everything
#   scripts/test.sh lint     the stages before the tests
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

# The same warnings fail everywhere; passed so that RUSTFLAGS stays as it is and nothing is compiled twice.
CLIPPY=(cargo clippy --quiet --workspace --all-targets --locked -- -D warnings)
UNIT=(cargo test --quiet --workspace --lib --bins --locked)
DOC=(cargo test --quiet --workspace --doc --locked)
PARTS=(cargo test --quiet -p arcgate-api -p arcgate-gateway --test '*' --locked)
WHOLE=(cargo test --quiet -p arcgate --locked)

report=()
trap 'printf "\n%s\n" "seconds per stage"; printf "%s\n" "${report[@]}"' EXIT

# stage BOUND NAME COMMAND…: a stage that passes its bound (seconds) is ended and fails.
stage() {
  local bound=$1 name=$2 begin=$SECONDS outcome=ok
  shift 2
  printf '\n== %s\n' "$name"
  timeout --kill-after=10 "$bound" "$@" || outcome=FAILED
  report+=("$(printf '%6d  %-28s %s' $((SECONDS - begin)) "$name" "$outcome")")
  [ "$outcome" = ok ] || exit 1
}

stage 600 'tools' scripts/tools.sh gate
stage 60 'format' cargo fmt --all --check
stage 120 'unused dependencies' "$TOOLS/bin/cargo-machete" .
stage 1500 'lints' "${CLIPPY[@]}"
stage 600 'docs' env RUSTDOCFLAGS='-D warnings' cargo doc --quiet --workspace --no-deps --locked
[ "${1:-}" = lint ] && exit 0

stage 1500 'compile the tests' cargo test --quiet --workspace --no-run --locked
stage 480 'unit and property tests' "${UNIT[@]}"
stage 120 'examples in docs' "${DOC[@]}"
stage 300 'contract, allocations' "${PARTS[@]}"
stage 300 'policy, allocations' "${WHOLE[@]}" --test policy --test 'allocations_*'
stage 600 'buf and Go clients' scripts/buf.sh
stage 1200 'end-to-end tests' "${WHOLE[@]}" --test e2e
