#!/usr/bin/env bash
# Usage: tools/apt.sh PACKAGE...
# Installs the Debian packages that are missing. Does nothing when all are there.
set -euo pipefail

missing=()
for package in "$@"; do
	status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) || status=unknown
	[ "$status" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if ! command -v apt-get >/dev/null; then
	echo "$0: there is no apt-get here: install these packages by hand: ${missing[*]}" >&2
	exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
	echo "$0: not root: run: sudo apt-get install ${missing[*]}" >&2
	exit 1
fi

install() {
	DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 \
		install -y -q --no-install-recommends "${missing[@]}" </dev/null
}

echo "installing Debian packages: ${missing[*]}" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if install >"$log" 2>&1; then
	exit 0
fi
# The usual reason is that the package lists are absent or old.
echo "the first try failed: updating the package lists, then trying again" >&2
if apt-get -o DPkg::Lock::Timeout=300 update -q >"$log" 2>&1 && install >>"$log" 2>&1; then
	exit 0
fi
cat "$log" >&2
echo "$0: cannot install: ${missing[*]}" >&2
exit 1
