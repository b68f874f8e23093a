# What the scripts share. Sourced from the project's root; defines, does nothing else.

TARGET=${CARGO_TARGET_DIR:-target}
TOOLS=$TARGET/tools
case "$TOOLS" in /*) ;; *) TOOLS=$PWD/$TOOLS ;; esac
mkdir -p "$TOOLS/bin"

say() { printf '%s\n' "$*" >&2; }
fail() {
  say "${0##*/}: $*"
  exit 1
}

# until_true SECONDS COMMAND…: waits for a condition, with a bound.
until_true() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.05
  done
}

# address FOLDER grpc|http: where the gateway on that data folder listens.
address() { sed -n "s/.*\"$2\" *: *\"\([^\"]*\)\".*/\1/p" "$1/addresses.json"; }
