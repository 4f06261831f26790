#!/usr/bin/env bash
# Usage: tools/guesttest.sh PACKAGE...
# Runs the tests of these packages in the guest, one package after the other, in one boot.
# Tests that build programs need Go's tools, which the guest has no time for: on the machine
# itself they run too.
# MULTIPLEXER_GUEST_DIR is what tools/guest.sh prints.
set -euo pipefail

[ $# -gt 0 ] || { echo "usage: $0 PACKAGE..." >&2; exit 2; }
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
export CGO_ENABLED=0
go build -o "$tmp/guestrun" ./internal/guestrun
# What these tests would build themselves: the guest has no time for that.
go build -o "$tmp/shape" ./internal/routetest/shape
export MULTIPLEXER_ROUTETEST_SHAPE=$tmp/shape
builds=TestEachRuleIsProven
script='status=0;'
for package in "$@"; do
	name=${package##*/}
	go test -c -o "$tmp/$name.test" "$package"
	script+=" echo '--- $package in the guest, without $builds'; cd '$root/$package' &&"
	script+=" '$tmp/$name.test' -test.timeout 30m -test.skip '^$builds\$' || status=1;"
done
"$tmp/guestrun" -timeout 35m -share "$tmp" /bin/sh -c "$script exit \$status"
