#!/usr/bin/env bash
# Usage: tools/kube.sh [NAME...]
# Prints the directory that holds the programs NAME, etcd and kube-apiserver if none is given,
# built first when missing. A name is the last word of a tool in tools/kube/*/go.mod.
# They live in the user's cache: a fresh checkout does not build them again.
set -euo pipefail

[ $# -gt 0 ] || set -- etcd kube-apiserver
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/kube"

# The tests run them on this machine, whatever the product is built for.
unset GOOS GOARCH

goversion=$(go env GOVERSION GOOS GOARCH)
key=$({ cat ./*/go.mod ./*/go.sum ../kube.sh; echo "$goversion"; } | sha256sum | cut -c1-16)
dir=${XDG_CACHE_HOME:-$HOME/.cache}/multiplexer/kube/$key

# Prints "MODULE/go.mod:PACKAGE" of the program $1, nothing when no module has it.
find_tool() {
	local path=$1
	# Its import path does not end in its name.
	[ "$1" != etcd ] || path=server/v3
	grep -oE "^(tool)?[[:space:]]+[^[:space:]]+/$path\$" ./*/go.mod | sed -E 's/:(tool)?[[:space:]]+/:/'
}

# Builds the program $1 into the directory $2.
build() {
	local name=$1 to=$2 tool module package version major minor flags="-s -w"
	tool=$(find_tool "$name")
	module=${tool%/go.mod:*} package=${tool#*:}
	if [ "$module" = ./kubernetes ]; then
		# What a release sets: nodes and clients compare versions.
		version=$(go -C "$module" list -m -f '{{.Version}}' k8s.io/kubernetes)
		IFS=. read -r major minor _ <<<"${version#v}"
		flags+=" -X k8s.io/component-base/version.gitVersion=$version"
		flags+=" -X k8s.io/component-base/version.gitMajor=$major"
		flags+=" -X k8s.io/component-base/version.gitMinor=$minor"
	fi
	# Every core is busy for minutes: whoever else works on this machine goes first.
	CGO_ENABLED=0 nice -n 19 go -C "$module" build -trimpath -ldflags "$flags" \
		-o "$to/$name" "$package" >&2 9>&-
	# A rename is atomic: who finds a program finds a whole one.
	mv -f "$to/$name" "$dir/$name"
}

missing=()
for name in "$@"; do
	[ ! -x "$dir/$name" ] || continue
	[ -n "$(find_tool "$name")" ] || { echo "$0: no tool named $name in tools/kube/*/go.mod" >&2; exit 1; }
	missing+=("$name")
done
if [ ${#missing[@]} -gt 0 ]; then
	mkdir -p "$dir"
	# Of two test packages that need them at once, only one builds.
	exec 9>"$dir/.lock"
	flock -n 9 || { echo "waiting for another build of ${missing[*]}" >&2; flock 9; }
	tmp=$(mktemp -d "$dir/.tmp.XXXXXX")
	trap 'rm -rf "$tmp"' EXIT
	for name in "${missing[@]}"; do
		[ ! -x "$dir/$name" ] || continue
		case $name in
		etcd) about="about 40 s" ;;
		kube-apiserver) about="about 5 minutes" ;;
		*) about="some minutes" ;;
		esac
		echo "building $name, once, $about on two idle cores" >&2
		SECONDS=0
		build "$name" "$tmp"
		echo "built $name in $SECONDS s" >&2
	done
fi
echo "$dir"
