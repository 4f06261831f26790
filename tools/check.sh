#!/usr/bin/env bash
# Usage: tools/check.sh format|vet|lint|shell|tidy|size FILE MAX
# One check of the whole repository. `make check` and `make test` call them.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD

# Runs a command in each module that it is given, and fails if one did.
each() {
	local modules=$1 dir status=0
	shift
	for dir in $modules; do
		echo "$dir"
		(cd "$dir" && "$@") || status=1
	done
	return "$status"
}

case ${1-} in
format)
	files=$(gofmt -l .)
	if [ -n "$files" ]; then
		echo "not formatted, run gofmt -w on:"
		echo "$files"
		exit 1
	fi
	;;
vet)
	modules=$(tools/modules.sh)
	each "$modules" go vet ./...
	;;
lint)
	tool=$(tools/gotool.sh golangci-lint)
	# A misspelled setting would be ignored without a word.
	"$tool" config verify --config .golangci.yaml
	modules=$(tools/modules.sh)
	each "$modules" "$tool" run --config "$root/.golangci.yaml" ./...
	;;
shell)
	# find and not git ls-files: a new script counts before it is committed.
	mapfile -t scripts < <(find . -name '*.sh' -not -path './.git/*' | sort)
	shellcheck "${scripts[@]}" .ci/run
	echo "$((${#scripts[@]} + 1)) scripts"
	;;
tidy)
	modules=$(tools/modules.sh all)
	each "$modules" go mod tidy -diff
	;;
size)
	[ $# -eq 3 ] || { echo "usage: $0 size FILE MAX" >&2; exit 2; }
	size=$(stat -c %s "$2")
	echo "$2: $size bytes, at most $3"
	[ "$size" -le "$3" ]
	;;
*)
	echo "usage: $0 format|vet|lint|shell|tidy|size FILE MAX" >&2
	exit 2
	;;
esac
