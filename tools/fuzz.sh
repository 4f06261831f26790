#!/usr/bin/env bash
# Usage: tools/fuzz.sh DURATION [FILE:TARGET]
# Runs each fuzz target of the repository for DURATION, or the one that is named, as in
# ./pkg/network/fuzz_test.go:FuzzMerge. As many run at a time as there are processors, each with
# one worker: several workers of one target wait for each other.
set -euo pipefail

[ $# -eq 1 ] || [ $# -eq 2 ] || { echo "usage: $0 DURATION [FILE:TARGET]" >&2; exit 2; }
duration=$1
self=$(readlink -f "$0")
cd "$(dirname "${BASH_SOURCE[0]}")/.."

log=$(mktemp)
trap 'rm -f "$log"' EXIT

# Runs the target $2 of the file $1; what it says comes at once, in one piece.
one() {
	local dir name=$2 status=0
	dir=$(dirname "$1")
	# Go wants exactly one package and one target. No -timeout: DURATION may be hours.
	(cd "$dir" && go test -run '^$' -fuzz "^$name\$" -fuzztime "$duration" -parallel 1 -timeout 0 .) \
		</dev/null >"$log" 2>&1 || status=1
	# Go up to 1.26 can report its own deadline at the end of -fuzztime as a failure:
	# https://go.dev/issue/75804. A real failure names its input or the seed.
	if [ "$status" -ne 0 ] && grep -qE '^ +context deadline exceeded$' "$log" &&
		! grep -qE 'Failing input written|seed corpus|panic:|_test\.go:[0-9]+:' "$log"; then
		echo "--- $name: no failure: this is Go's own deadline, https://go.dev/issue/75804" >>"$log"
		status=0
	fi
	[ "$status" -eq 0 ] || echo "FAILED: $name in $dir" >>"$log"
	sed "1i--- $name in $dir" "$log"
	return "$status"
}

if [ $# -eq 2 ]; then
	one "${2%:*}" "${2##*:}"
	exit
fi

# Lines of the form ./dir/file_test.go:FuzzName.
targets=$(grep -rEo --include='*_test.go' --exclude-dir=.git --exclude-dir=testdata \
	'^func Fuzz[A-Z0-9_][A-Za-z0-9_]*' . | sed 's/:func /:/' | sort) || true
# No target means a broken search or lost tests: that must not pass in silence.
[ -n "$targets" ] || { echo "$0: no fuzz target found" >&2; exit 1; }
workers=$(nproc)
echo "$(wc -l <<<"$targets") fuzz targets, $duration each, $workers at a time"
# By xargs and not by jobs of the shell: an interrupt ends all of it.
xargs -d '\n' -n 1 -P "$workers" "$self" "$duration" <<<"$targets" | tee "$log" || {
	grep '^FAILED: ' "$log"
	exit 1
}
