#!/usr/bin/env bash
# Prints the path of Multus's thin plugin, built first when missing.
# It lives in the user's cache: a fresh checkout does not build it again.
set -euo pipefail

[ $# -eq 0 ] || { echo "usage: $0" >&2; exit 2; }
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/multus"

# The tests run it on this machine, whatever the product is built for.
unset GOOS GOARCH

goversion=$(go env GOVERSION GOOS GOARCH)
key=$({ cat go.mod go.sum ../multus.sh; echo "$goversion"; } | sha256sum | cut -c1-16)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/multiplexer/multus
plugin=$cache/$key/multus

if [ ! -x "$plugin" ]; then
	echo "building Multus, once, about 1 minute" >&2
	mkdir -p "$cache/$key"
	tmp=$(mktemp -d "$cache/.tmp.XXXXXX")
	trap 'rm -rf "$tmp"' EXIT
	SECONDS=0
	CGO_ENABLED=0 nice -n 19 go build -trimpath -ldflags "-s -w" -o "$tmp/multus" tool >&2
	# A rename is atomic: who finds it finds a whole one.
	mv -f "$tmp/multus" "$plugin"
	echo "built Multus in $SECONDS s" >&2
fi
echo "$plugin"
