#!/usr/bin/env bash
# Prints the path of helm, built first from tools/helm/go.mod when missing.
# It lives in the user's cache: a fresh checkout does not build it again.
set -euo pipefail

[ $# -eq 0 ] || { echo "usage: $0" >&2; exit 2; }
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=/dev/null
. "$here/progress.sh"
cd "$here/helm"

# A cross build of the product must not cross build the tools.
unset GOOS GOARCH

goversion=$(go env GOVERSION GOOS GOARCH)
key=$({ cat go.mod go.sum ../helm.sh; echo "$goversion"; } | sha256sum | cut -c1-16)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/multiplexer/helm
dir=$cache/$key

if [ ! -x "$dir/helm" ]; then
	mkdir -p "$dir"
	# Of two that need it at once, only one builds.
	exec 9>"$cache/.lock"
	flock -n 9 || { echo "waiting for another build of helm" >&2; flock 9; }
	if [ ! -x "$dir/helm" ]; then
		tmp=$(mktemp -d "$dir/.tmp.XXXXXX")
		trap 'rm -rf "$tmp"' EXIT
		building helm "about 2 minutes on two idle cores" \
			env CGO_ENABLED=0 nice -n 19 go build -trimpath -ldflags "-s -w" -o "$tmp/helm" helm.sh/helm/v4/cmd/helm >&2 9>&-
		mv -f "$tmp/helm" "$dir/helm"
	fi
fi
echo "$dir/helm"
