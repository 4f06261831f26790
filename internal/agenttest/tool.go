package agenttest

import (
	"errors"
	"os"
	"os/exec"
	"strings"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// asOnANode runs a command where the node's directories are at the places that
// they have on a real one. What the node's disk has there is hidden from it.
const asOnANode = `set -e
mount --make-rprivate /
mount --rbind /run/netns "$NODE/netns"
for dir in /etc /opt /var/lib /run; do mount -t tmpfs none $dir; done
at() { mkdir -p "$2"; mount --rbind "$NODE/$1" "$2"; }
at netns /run/netns
at net.d /etc/cni/net.d
at conf /etc/cni/multiplexer/net.d
at bin /opt/cni/bin
at state /var/lib/cni/multiplexer
at . /run/multiplexer
at . /var/lib/kubelet/pod-resources
exec "$@"
`

// Tool runs multiplexerd on the node, as its administrator does. The exit
// status is 0 or 1, and -1 where it could not be run.
func (n *Node) Tool(args ...string) (stdout, stderr string, status int) {
	n.Helper()
	binary, err := nettest.AgentPath()
	n.must(err)
	n.must(os.MkdirAll(n.File("bin"), 0o755))
	var out, bad strings.Builder
	cmd := exec.CommandContext(n.Context(), "unshare", append([]string{"-m", "sh", "-c", asOnANode, "sh", binary}, args...)...)
	cmd.Env = []string{"NODE=" + n.Dir, "PATH=" + os.Getenv("PATH")}
	cmd.Stdout, cmd.Stderr = &out, &bad
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		n.Fatal(err)
	}
	return out.String(), bad.String(), cmd.ProcessState.ExitCode()
}

// Install puts multiplexer onto the node, beside the plugins that its networks
// use. The node's agent runs.
func (n *Node) Install(set ...string) {
	n.Helper()
	n.must(os.MkdirAll(n.File("bin"), 0o755))
	n.must(nettest.InstallRecorder(n.File("bin"), "recorder"))
	args := []string{"install", "--plugin", nettest.Binary(n), "--set", `clusterCIDRs=["10.244.0.0/16","10.96.0.0/12"]`}
	for _, s := range set {
		args = append(args, "--set", s)
	}
	if _, stderr, status := n.Tool(args...); status != 0 {
		n.Fatalf("install: %s", stderr)
	}
}

// MetricsAddress is where the agent's HTTP server is.
func (n *Node) MetricsAddress() string { return n.agent.address }

// AgentKubeconfig is the agent's own kubeconfig.
func (n *Node) AgentKubeconfig() string { return n.kubeconfig }
