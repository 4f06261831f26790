#!/usr/bin/env bash
# Usage: tools/modules.sh [all|nested]
# Prints the directory of each Go module, from the repository's root.
# Plain: the modules with product or test code. nested: those but the main one.
# all: the modules of tools/ too.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# find and not git ls-files: a new module counts before it is committed.
find . -name go.mod -not -path './.git/*' -not -path '*/testdata/*' -printf '%h\n' | sort |
	case ${1-} in
	all) cat ;;
	nested) sed -e '/^\.$/d' -e '/^\.\/tools$/d' -e '/^\.\/tools\//d' ;;
	'') sed -e '/^\.\/tools$/d' -e '/^\.\/tools\//d' ;;
	*) echo "usage: $0 [all|nested]" >&2; exit 2 ;;
	esac
