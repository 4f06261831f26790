package main

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// What install, uninstall and migrate say holds names of files and texts of
// others: no terminal may obey them.
func TestNoTerminalObeysWhatIsSaid(t *testing.T) {
	n := newTree(t)
	n.put("/etc/cni/net.d/00-a\x1b[31m.conf", `{"cniVersion":"1.0.0","name":"m","type":"multus"}`)
	n.put("/multus.conf", `{"type":"multus","logFile":"/host/\u001b[31m"}`)
	binary, err := nettest.AgentPath()
	if err != nil {
		t.Fatal(err)
	}
	for want, args := range map[string][]string{
		"ConfShadowed /etc/cni/net.d/00-a?[31m.conf": {"install", "--host-root", n.root, "--plugin", nettest.Binary(n), "--set", "agentSocket="},
		"Error: open /nowhere\n?[31m":                {"migrate", "/nowhere\n\x1b[31m"},
		"/host/?[31m is inside Multus's container":   {"migrate", n.at("/multus.conf")},
	} {
		out, _ := exec.Command(binary, args...).CombinedOutput() // some are to fail
		if !strings.Contains(string(out), want) || strings.Contains(string(out), "\x1b") {
			t.Errorf("%q: %q, want %q", args, out, want)
		}
	}
}
