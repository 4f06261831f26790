package agenttest

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/multiplexer-cni/multiplexer/pkg/agentapi"
)

// nextVersion builds a program of these sources as the next version would be:
// with another protocol, and another format of the agent's last word.
func nextVersion(t *testing.T, program string) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir, replace := t.TempDir(), map[string]string{}
	for file, constant := range map[string]string{"message.go": "const Protocol = ", "copy.go": "const copyVersion = "} {
		path := filepath.Join(root, "pkg/agentapi", file)
		raw, rerr := os.ReadFile(path)
		if rerr != nil {
			t.Fatal(rerr)
		}
		if strings.Count(string(raw), constant+"1\n") != 1 {
			t.Fatalf("%s: no line %q", path, constant+"1")
		}
		replace[path] = filepath.Join(dir, file)
		if err = os.WriteFile(replace[path], []byte(strings.Replace(string(raw), constant+"1\n", constant+"2\n", 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "overlay"), overlay, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, program)
	cmd := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-overlay", filepath.Join(dir, "overlay"), "-o", out, "./cmd/"+program)
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if text, berr := cmd.CombinedOutput(); berr != nil {
		t.Fatalf("build %s of the next version: %v: %s", program, berr, text)
	}
	return out
}

// While plugin and agent are of versions that do not understand each other,
// pods with networks wait, and are told who has to be upgraded; plain pods,
// STATUS and DEL go on. Once both are of one version, so do the others.
func TestVersionsOfPluginAndAgent(t *testing.T) {
	newPlugin, newAgent := nextVersion(t, "multiplexer"), nextVersion(t, "multiplexerd")
	for _, c := range []struct {
		name, network string
		plugin, agent string // programs; "" = of these sources
		says          string
	}{
		{"an old plugin and a new agent", "ver-a", "", newAgent, "speaks protocol 2, the plugin 1: upgrade the plugin on this node"},
		{"a new plugin and an old agent", "ver-b", newPlugin, "", "speaks protocol 1, the plugin 2: upgrade the agent (multiplexerd)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := New(t, cluster)
			n.Define("shop", c.network, n.List(c.network, "10.50.0.0/24"), "")
			n.Namespace(c.network, "shop/"+c.network) // one with networks of its own
			n.Config = map[string]any{"namespaceIsolation": false}
			n.StartAgent()
			n.WaitReady()
			living := n.passing(c.network+"-living", c.network)
			n.OK("ADD", living)

			n.StopAgent()
			n.Bin, n.Program = c.plugin, c.agent
			n.StartAgent()
			n.WaitReady()
			own := n.NewPod(c.network, "web", "")
			n.CreatePod(own)
			asks, plain := n.passing(c.network+"-asks", c.network), n.passing(c.network+"-plain", "")
			for _, p := range []*Pod{asks, own} {
				n.Refused(n.soon("ADD", p), 11, c.says, "pods that ask for networks wait")
				n.same(n.Called("ADD", p), []string(nil))
				n.same(n.Journal(p), false)
			}
			for _, p := range []*Pod{plain, plain, living} {
				if p == plain {
					n.within(agentapi.Patience*3/4, "ADD of a plain pod, which does not wait", func() { n.OK("ADD", p) })
				}
				n.OK("DEL", p)
			}
			n.OK("STATUS", plain)
			if !strings.Contains(n.AgentLog(), "the agent "+c.says) {
				t.Errorf("the agent's log does not say %q:\n%s", c.says, n.AgentLog())
			}

			n.StopAgent()
			n.Bin, n.Program = newPlugin, newAgent
			n.StartAgent()
			n.WaitReady()
			for _, p := range []*Pod{asks, own} {
				n.OK("ADD", p)
				n.same(len(n.Called("ADD", p)), 2)
				n.OK("DEL", p)
			}
		})
	}
}
