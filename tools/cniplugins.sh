#!/usr/bin/env bash
# Prints the directory that holds the reference CNI plugins and flannel's, built first when missing.
# It lives in the user's cache: a fresh checkout does not build them again.
set -euo pipefail

[ $# -eq 0 ] || { echo "usage: $0" >&2; exit 2; }
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/cniplugins"

# The tests run the plugins on this machine, whatever the product is built for.
unset GOOS GOARCH

goversion=$(go env GOVERSION GOOS GOARCH)
key=$({ cat go.mod go.sum flannel/go.mod flannel/go.sum ../cniplugins.sh; echo "$goversion"; } | sha256sum | cut -c1-16)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/multiplexer/cniplugins
dir=$cache/$key

if [ ! -d "$dir" ]; then
	echo "building the reference CNI plugins, once, about 15 s" >&2
	mkdir -p "$cache"
	tmp=$(mktemp -d "$cache/.tmp.XXXXXX")
	trap 'rm -rf "$tmp"' EXIT
	chmod 755 "$tmp"
	SECONDS=0
	# The pattern "tool" is every tool directive of go.mod.
	# flannel's is of an older version of the same module, and so has a go.mod of its own.
	for module in . flannel; do
		CGO_ENABLED=0 go -C "$module" build -trimpath -ldflags "-s -w" -o "$tmp/" tool >&2
	done
	# A rename is atomic. When another build came first, its directory is as good.
	mv -T "$tmp" "$dir" 2>/dev/null || [ -d "$dir" ] || {
		echo "$0: cannot move the built plugins to $dir" >&2
		exit 1
	}
	echo "built the reference CNI plugins in $SECONDS s" >&2
fi
echo "$dir"
