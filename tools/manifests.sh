#!/usr/bin/env bash
# Usage: tools/manifests.sh [DIRECTORY]
# Writes the manifests that the chart generates, into deploy/ unless another directory is named.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
to=${1-$root/deploy}
helm=$("$root/tools/helm.sh")

# Nothing that the user's own helm is configured with counts, and no cluster is asked.
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
export HELM_CONFIG_HOME=$home HELM_CACHE_HOME=$home HELM_DATA_HOME=$home KUBECONFIG=/dev/null

# Renders the chart, or the templates that are named, below the comment $1.
render() {
	local comment=$1
	shift
	echo "$comment"
	echo "# Generated from deploy/chart by \`make manifests\`: change it there."
	# Helm's own comments say where a document is from, and the first --- has nothing before it.
	"$helm" template multiplexer "$root/deploy/chart" --namespace kube-system "$@" |
		sed -e '/^# Source: /d' | sed -e '1{/^---$/d}' -e '/^[[:space:]]*$/d'
}

mkdir -p "$to"
render "# The agent on every node. It installs multiplexer there and keeps it in its place." --no-hooks >"$to/install.yaml"
render "# Takes multiplexer off every node, before install.yaml is deleted: docs/deploy.md." \
	--show-only templates/uninstall.yaml >"$to/uninstall.yaml"
render "# The agent's rights alone, for an agent that does not run as a pod. install.yaml has them too." \
	--show-only templates/rbac.yaml >"$to/rbac.yaml"
# What is the same for everybody is written once, and helm wants it in the chart.
if [ "$to" = "$root/deploy" ]; then
	cp "$root/deploy/network-attachment-definitions.yaml" "$root/deploy/chart/crds/"
fi
