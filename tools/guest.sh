#!/usr/bin/env bash
# Prints the directory that holds the guest: QEMU, a kernel and an initramfs with SR-IOV
# drivers, all from Debian's packages, fetched first when missing. Nothing is installed.
# It lives in the user's cache: a fresh checkout does not fetch it again.
#
#   qemu     runs QEMU with its own libraries
#   vmlinux  the kernel, not compressed: it boots faster
#   initrd   tools/guest/init, busybox and the modules
set -euo pipefail

[ $# -eq 0 ] || { echo "usage: $0" >&2; exit 2; }
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=/dev/null
. "$here/progress.sh"

# shellcheck source=/dev/null
codename=$(. /etc/os-release && echo "${VERSION_CODENAME-}")
case $codename in
bookworm) suites="$codename $codename-backports" ;; # QEMU 7.2 has no igb
trixie | forky | sid) suites=$codename ;;
*)
	echo "$0: this is Debian \"$codename\", and the guest is made of packages of bookworm or later" >&2
	exit 1
	;;
esac

key=$({ cat "$here/guest.sh" "$here"/guest/*; echo "$suites"; } | sha256sum | cut -c1-16)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/multiplexer/guest
dir=$cache/$key

# The machine's own mirror, from whatever form its apt sources have, and Debian's key.
sources() {
	local uri release key=/usr/share/keyrings/debian-archive-keyring.gpg
	# shellcheck disable=SC2016 # these are apt's own variables
	while IFS='|' read -r uri release; do
		[ "$release" = "$codename" ] || continue
		printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\n' "$uri" "$suites"
		[ ! -e "$key" ] || printf 'Signed-By: %s\n' "$key"
		return
	done < <(apt-get indextargets --format '$(REPO_URI)|$(RELEASE)' 'Created-By: Packages' 'Component: main')
	echo "$0: no apt source of this machine names $codename with the component main" >&2
	return 1
}

quietly() { "$@" >"$log" 2>&1; }

# Fetches packages and what they need into $1/root, for an "if": each step returns what
# went wrong. An empty dpkg status makes apt
# fetch the libraries too: nothing is taken from this machine but apt itself.
fetch() {
	local tmp=$1 options
	shift
	mkdir -p "$tmp"/apt/{lists,archives}/partial "$tmp/apt/sources" "$tmp/root"
	sources >"$tmp/apt/sources/debian.sources" || return
	: >"$tmp/apt/status"
	options=(
		-o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$tmp/apt/sources"
		-o Dir::State::Lists="$tmp/apt/lists" -o Dir::State::Status="$tmp/apt/status"
		-o Dir::Cache="$tmp/apt" -o APT::Sandbox::User=root -o Debug::NoLocking=1
	)
	apt-get "${options[@]}" update -q || return
	apt-get "${options[@]}" install -q -y --no-install-recommends --download-only -t "${suites##* }" "$@" </dev/null || return
	for package in "$tmp"/apt/archives/*.deb; do
		dpkg-deb --fsys-tarfile "$package" | tar -x -C "$tmp/root" --keep-directory-symlink || return
	done
	rm -rf "$tmp/apt"
}

# Runs a program of the fetched packages with their own libraries.
fetched() {
	local root=$1 program=$2
	shift 2
	"$root/lib64/ld-linux-x86-64.so.2" --library-path \
		"$root/lib/x86_64-linux-gnu:$root/usr/lib/x86_64-linux-gnu:$root/usr/lib/x86_64-linux-gnu/pulseaudio" \
		"$root/$program" "$@"
}

# Writes the program that starts QEMU.
wrapper() {
	cat <<-'END'
		#!/bin/sh
		root=$(dirname "$(readlink -f "$0")")/root
		lib=$root/lib/x86_64-linux-gnu:$root/usr/lib/x86_64-linux-gnu:$root/usr/lib/x86_64-linux-gnu/pulseaudio
		export QEMU_MODULE_DIR="$root/usr/lib/x86_64-linux-gnu/qemu"
		exec "$root/lib64/ld-linux-x86-64.so.2" --library-path "$lib" "$root/usr/bin/qemu-system-x86_64" \
			-L "$root/usr/share/qemu" -L "$root/usr/share/seabios" -L "$root/usr/lib/ipxe/qemu" "$@"
	END
}

# Takes the kernel proper out of its self-extracting image $1.
vmlinux() {
	local root=$2 at
	at=$(LC_ALL=C grep -abo $'\x28\xb5\x2f\xfd' "$1" | head -1 | cut -d: -f1)
	[ -n "$at" ] || { cat "$1"; return; }
	# What follows the compressed kernel is no part of it: zstd says so, and has done its work.
	tail -c "+$((at + 1))" "$1" | fetched "$root" usr/bin/zstd -dcq 2>/dev/null || true
}

# Writes the initramfs.
initramfs() {
	local root=$1 kernel=$2 to=$3 module file name
	mkdir -p "$to"/{bin,modules,dev,proc,sys,lower,rw,new}
	cp "$root/bin/busybox" "$to/bin/"
	cp "$here/guest/init" "$to/init"
	cp "$here/guest/main" "$to/main"
	chmod 755 "$to/init" "$to/main"
	depmod "$root" "$kernel"
	while read -r module; do
		case $module in "" | "#"*) continue ;; esac
		show_depends "$root" "$kernel" "$module"
	done <"$here/guest/modules" | awk '!seen[$0]++' | while read -r file; do
		name=$(basename "$file" .xz)
		case $file in
		*.xz) fetched "$root" usr/bin/xz -dc "$file" >"$to/modules/$name" ;;
		*) cp "$file" "$to/modules/$name" ;;
		esac
		echo "$name" >>"$to/modules/order"
	done
	(cd "$to" && find . -print0 | fetched "$root" bin/cpio --null -o -H newc -R 0:0 --quiet)
}

# kmod is one program under many names.
depmod() { (cd "$1" && ln -sf kmod bin/depmod && fetched "$1" bin/depmod -b "$1" "$2"); }

show_depends() {
	ln -sf kmod "$1/bin/modprobe"
	fetched "$1" bin/modprobe -d "$1" -S "$2" --show-depends --ignore-install "$3" |
		awk '$1 == "insmod" {print $2}' || {
		echo "$0: the kernel $2 has no module $3" >&2
		return 1
	}
}

if [ ! -d "$dir" ]; then
	mkdir -p "$cache"
	# Of two callers at once, only one fetches.
	exec 9>"$cache/.lock"
	flock 9
fi
if [ ! -d "$dir" ]; then
	echo "fetching QEMU and a kernel from Debian for the SR-IOV guest, once, 160 MB, about 30 s" >&2
	SECONDS=0
	tmp=$(mktemp -d "$cache/.tmp.XXXXXX")
	trap 'rm -rf "$tmp"' EXIT
	log=$tmp/log
	if ! progress "still fetching QEMU and a kernel" \
		quietly fetch "$tmp" qemu-system-x86 linux-image-amd64 busybox-static kmod cpio zstd xz-utils; then
		cat "$log" >&2
		echo "$0: cannot fetch the packages: the machine's apt sources must reach a Debian mirror that has $suites" >&2
		exit 1
	fi
	root=$tmp/root
	kernel=$(basename "$(echo "$root"/lib/modules/*)")
	echo "making the guest's initramfs, kernel $kernel" >&2
	vmlinux "$root/boot/vmlinuz-$kernel" "$root" >"$tmp/vmlinux"
	initramfs "$root" "$kernel" "$tmp/initramfs" >"$tmp/initrd"
	wrapper >"$tmp/qemu"
	chmod 755 "$tmp" "$tmp/qemu"
	rm -rf "$tmp/initramfs" "$log" "${root:?}"/boot "${root:?}"/lib/modules "$root"/usr/share/{doc,man,locale}
	mv -T "$tmp" "$dir"
	echo "made the guest in $SECONDS s" >&2
fi
echo "$dir"
