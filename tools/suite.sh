#!/usr/bin/env bash
# Usage: tools/suite.sh NAME COMMAND [ARG...]
# Runs the command under a heading and prints how many seconds it took.
set -euo pipefail

[ $# -ge 2 ] || { echo "usage: $0 NAME COMMAND [ARG...]" >&2; exit 2; }
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=/dev/null
. "$here/progress.sh"
name=$1
shift
echo "=== $name"
SECONDS=0
status=0
progress "=== still at it: $name" "$@" || status=$?
if [ "$status" -eq 0 ]; then
	echo "=== $name: ok, $SECONDS s"
else
	echo "=== $name: FAILED with exit code $status, $SECONDS s"
fi
exit "$status"
