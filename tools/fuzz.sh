#!/usr/bin/env bash
# Usage: tools/fuzz.sh DURATION
# Runs each fuzz target of the repository for DURATION, one after the other.
set -euo pipefail

[ $# -eq 1 ] || { echo "usage: $0 DURATION" >&2; exit 2; }
duration=$1
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Lines of the form ./dir/file_test.go:FuzzName.
targets=$(grep -rEo --include='*_test.go' --exclude-dir=.git --exclude-dir=testdata \
	'^func Fuzz[A-Z0-9_][A-Za-z0-9_]*' . | sed 's/:func /:/' | sort) || true
# No target means a broken search or lost tests: that must not pass in silence.
[ -n "$targets" ] || { echo "$0: no fuzz target found" >&2; exit 1; }
echo "$(wc -l <<<"$targets") fuzz targets, $duration each"

log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed=()
while IFS=: read -r file name; do
	dir=$(dirname "$file")
	echo "--- $name in $dir"
	# Go wants exactly one package and one target. No -timeout: DURATION may be hours.
	if (cd "$dir" && go test -run '^$' -fuzz "^$name\$" -fuzztime "$duration" -timeout 0 .) \
		</dev/null 2>&1 | tee "$log"; then
		continue
	fi
	# Go up to 1.26 can report its own deadline at the end of -fuzztime as a failure:
	# https://go.dev/issue/75804. A real failure names its input or the seed.
	if grep -qE '^ +context deadline exceeded$' "$log" &&
		! grep -qE 'Failing input written|seed corpus|panic:|_test\.go:[0-9]+:' "$log"; then
		echo "--- $name: no failure: this is Go's own deadline, https://go.dev/issue/75804"
		continue
	fi
	failed+=("$name in $dir")
done <<<"$targets"

if [ ${#failed[@]} -gt 0 ]; then
	printf 'FAILED: %s\n' "${failed[@]}"
	exit 1
fi
