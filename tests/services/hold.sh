#!/usr/bin/env bash
# Runs a service for a test, and ends it with the test, however that ends: what it is told comes in on standard input, and once
# that is closed the service is killed and its folder removed.
#
#   tests/services/hold.sh kafka|clickhouse|postgres FOLDER
#
#   SERVICE_DISK   the service's data lies on a disk of this size (as 64m), in memory, which is there as long as this runs; needs root
#
# It takes these words, one a line, and answers each with one line: `ok …` or `failed`.
#
#   start [NAME=VALUE …]   with these variables for its `up.sh`
#   stop, kill             ends it in order, or as a crash would
#   room SIZE              the disk has this size from now on
set -uo pipefail
service=$1 folder=$2
. "${BASH_SOURCE[0]%/*}/lib.sh"
here=$root/tests/services/$service

mkdir -p "$folder" && folder=$(cd "$folder" && pwd)
if [ -n "${SERVICE_DISK:-}" ] && [ -z "${SERVICE_DISK_MOUNTED:-}" ]; then
  # In a mount namespace of its own: nobody else sees it, and it goes with the last process in it.
  SERVICE_DISK_MOUNTED=1 exec unshare --mount "$0" "$@"
fi
if [ -n "${SERVICE_DISK:-}" ]; then
  mkdir -p "$folder/data" && mount -t tmpfs -o "size=$SERVICE_DISK" tmpfs "$folder/data" || fail "no disk of $SERVICE_DISK could be mounted; this needs root"
fi
trap : INT TERM HUP
while read -r word more; do
  case "$word" in
    # shellcheck disable=SC2086 # as many variables as there are
    start) answer=$(env $more "$here/up.sh" "$folder" </dev/null) ;;
    stop) answer=$("$here/down.sh" "$folder" </dev/null) ;;
    kill) answer=$("$here/down.sh" "$folder" KILL </dev/null) ;;
    room) answer=$(mount -o "remount,size=$more" "$folder/data" </dev/null) ;;
    *) false ;;
  esac && echo "ok $answer" || echo failed
done
"$here/down.sh" "$folder" KILL
[ -z "${SERVICE_DISK:-}" ] || umount --lazy "$folder/data"
rm -rf "$folder"
