#!/usr/bin/env bash
# Usage: tools/gotool.sh NAME
# Prints the path of the tool NAME from tools/go.mod, built first when missing.
# The binaries live in the user's cache: a fresh checkout does not build them again.
set -euo pipefail

[ $# -eq 1 ] || { echo "usage: $0 NAME" >&2; exit 2; }
name=$1
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=/dev/null
. "$here/progress.sh"
cd "$here"

# A cross build of the product must not cross build the tools.
unset GOOS GOARCH

goversion=$(go env GOVERSION GOOS GOARCH)
key=$({ cat go.mod go.sum gotool.sh; echo "$goversion"; } | sha256sum | cut -c1-16)
dir=${XDG_CACHE_HOME:-$HOME/.cache}/multiplexer/tools/$key

if [ ! -x "$dir/$name" ]; then
	packages=$(go list -f '{{.ImportPath}}' tool)
	package=$(grep -E "/$name\$" <<<"$packages") || {
		echo "$0: no tool named $name in tools/go.mod" >&2
		exit 1
	}
	case $name in
	golangci-lint) about="one minute or more" ;;
	*) about="about 10 s" ;;
	esac
	mkdir -p "$dir"
	tmp=$(mktemp -d "$dir/.tmp.XXXXXX")
	trap 'rm -rf "$tmp"' EXIT
	building "$name" "$about" env CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o "$tmp/$name" "$package" >&2
	# A rename is atomic: of two builds at once the last one wins, and both are whole.
	mv -f "$tmp/$name" "$dir/$name"
fi
echo "$dir/$name"
