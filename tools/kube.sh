#!/usr/bin/env bash
# Usage: tools/kube.sh [NAME...]
# Prints the directory that holds the programs NAME, etcd and kube-apiserver if none is given,
# built first when missing. A name is the last word of a tool in tools/kube/*/go.mod.
# They live in the user's cache: a fresh checkout does not build them again. What one module
# asks for does not touch the programs of another: the directory holds links to a directory
# for each module, named by all that decides what is in it.
set -euo pipefail

[ $# -gt 0 ] || set -- etcd kube-apiserver
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=/dev/null
. "$here/progress.sh"
cd "$here/kube"

# The tests run them on this machine, whatever the product is built for.
unset GOOS GOARCH

goversion=$(go env GOVERSION GOOS GOARCH)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/multiplexer/kube

# Prints what names the content of the files $@, this script and the compiler.
key() {
	{ cat "$@" ../kube.sh; echo "$goversion"; } | sha256sum | cut -c1-16
}

dir=$cache/$(key ./*/go.mod ./*/go.sum)

# Prints "MODULE PACKAGE" of the program $1, nothing when no module has it.
find_tool() {
	local path=$1
	# Its import path does not end in its name.
	[ "$1" != etcd ] || path=server/v3
	grep -oE "^(tool)?[[:space:]]+[^[:space:]]+/$path\$" ./*/go.mod | sed -E 's,^\./(.*)/go\.mod:(tool)?[[:space:]]+,\1 ,'
}

# Prints the version of the module $2 in tools/kube/$1.
version_of() {
	go -C "$1" list -m -f '{{.Version}}' "$2"
}

# Prints the flags that the program $2 of tools/kube/$1 is linked with: what a release sets.
link_flags() {
	local flags="-s -w" version major minor
	case $1 in
	kubernetes)
		# Nodes and clients compare versions.
		version=$(version_of "$1" k8s.io/kubernetes)
		IFS=. read -r major minor _ <<<"${version#v}"
		flags+=" -X k8s.io/component-base/version.gitVersion=$version"
		flags+=" -X k8s.io/component-base/version.gitMajor=$major"
		flags+=" -X k8s.io/component-base/version.gitMinor=$minor"
		;;
	containerd)
		version=$(version_of "$1" github.com/containerd/containerd/v2)
		flags+=" -X github.com/containerd/containerd/v2/version.Version=${version#v}"
		;;
	runc)
		version=$(version_of "$1" github.com/opencontainers/runc)
		flags+=" -X main.version=${version#v} -extldflags -static"
		;;
	esac
	echo "$flags"
}

# Builds the package $3 of tools/kube/$2 as the program $1, into the directory $4.
build() {
	local name=$1 module=$2 package=$3 to=$4 cgo=0 tags=() flags
	case $module in
	containerd) tags=(-tags "no_btrfs,no_devmapper,no_zfs") ;;
	runc)
		# The kubelet asks for the default seccomp profile, and libseccomp is a C library.
		cgo=1 tags=(-tags "seccomp,netgo,osusergo")
		../apt.sh gcc libc6-dev libseccomp-dev pkg-config >&2 9>&-
		;;
	esac
	flags=$(link_flags "$module")
	# Every core is busy for minutes: whoever else works on this machine goes first.
	CGO_ENABLED=$cgo nice -n 19 go -C "$module" build -trimpath "${tags[@]}" -ldflags "$flags" \
		-o "$to/$name" "$package" >&2 9>&-
}

# Builds the program $1 unless it is there, and links it into the directory.
provide() {
	local name=$1 module package store about
	[ ! -x "$dir/$name" ] || return 0
	read -r module package <<<"$(find_tool "$name")"
	store=$module-$(key "$module/go.mod" "$module/go.sum")
	mkdir -p "$cache/$store"
	if [ ! -x "$cache/$store/$name" ]; then
		case $name in
		etcd | containerd) about="about 40 s" ;;
		kube-apiserver) about="about 5 minutes" ;;
		kubelet | kube-controller-manager) about="1 or 2 minutes" ;;
		*) about="less than a minute" ;;
		esac
		building "$name" "$about on two idle cores" build "$name" "$module" "$package" "$tmp"
		# A rename is atomic: who finds a program finds a whole one.
		mv -f "$tmp/$name" "$cache/$store/$name"
	fi
	ln -sfn "../$store/$name" "$dir/$name"
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
	exec 9>"$cache/.lock"
	flock -n 9 || { echo "waiting for another build of ${missing[*]}" >&2; flock 9; }
	tmp=$(mktemp -d "$cache/.tmp.XXXXXX")
	trap 'rm -rf "$tmp"' EXIT
	for name in "${missing[@]}"; do
		provide "$name"
	done
fi
echo "$dir"
