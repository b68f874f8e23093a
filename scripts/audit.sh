#!/usr/bin/env bash
# cargo-deny with deny.toml: known vulnerabilities and yanked versions (from the network), licences, bans, sources.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

DENY=0.20.2
if ! "$TOOLS/bin/cargo-deny" --version 2>/dev/null | grep -qF "$DENY"; then
  say "installing cargo-deny $DENY: this takes minutes"
  cargo install cargo-deny --version "$DENY" --locked --quiet --root "$TOOLS" --target-dir "$TOOLS/build"
  rm -rf "$TOOLS/build"
fi
exec "$TOOLS/bin/cargo-deny" --workspace check
