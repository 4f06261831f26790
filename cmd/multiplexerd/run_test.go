package main

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

// docs/agent.md lists every flag of `run` with its default.
func TestFlagsAreDocumented(t *testing.T) {
	t.Setenv("NODE_NAME", "")
	page, err := os.ReadFile("../../docs/agent.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `--([a-z-]+)` \\| (?:`([^`]*)` )?\\|").FindAllStringSubmatch(string(page), -1) {
		documented[row[1]] = row[2]
	}
	flags := map[string]string{}
	runCommand().Flags().VisitAll(func(f *pflag.Flag) {
		if f.Name != "help" && !f.Hidden {
			flags[f.Name] = strings.Trim(f.DefValue, "[]")
		}
	})
	if diff := cmp.Diff(flags, documented); diff != "" {
		t.Errorf("flags (-code +docs/agent.md):\n%s", diff)
	}
}

// A wrong flag ends the agent before it does anything, and the error says
// what the flag takes.
func TestFlagErrors(t *testing.T) {
	t.Setenv("NODE_NAME", "")
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	for _, c := range []struct {
		args string
		want string
	}{
		{"", "--node-name is missing"},
		{"--node-name n --socket agent.sock", `--socket "agent.sock": want an absolute path`},
		{"--node-name n --state-dir state", `--state-dir "state": want an absolute path`},
		{"--node-name n --netns-dir netns", `--netns-dir "netns": want an absolute path`},
		{"--node-name n --pod-resources-socket k", `--pod-resources-socket "k": want an absolute path`},
		{"--node-name n --publish some", `--publish "some": want one of multi, all, off`},
		{"--node-name n --events some", `--events "some": want one of failures, all, none`},
		{"--node-name n --sweep 10ms", "--sweep 10ms: want at least 1s"},
		{"--node-name n --cluster-cidrs 10.244.0.0", `--cluster-cidrs "10.244.0.0": want a range`},
		{"--node-name n --cluster-cidrs 0.0.0.0/0", `--cluster-cidrs "0.0.0.0/0": want a range`},
		{"--node-name n --log-level loud", `--log-level "loud": want debug, info, warn or error`},
		{"--node-name n --log-format xml", `--log-format "xml": want text or json`},
		{"--node-name n", "name a kubeconfig file with --kubeconfig"},
		{"--node-name n --kubeconfig /nowhere/config", "--kubeconfig /nowhere/config: "},
		{"--node-name n more", "unknown command"},
	} {
		dir := t.TempDir()
		cmd := command()
		cmd.SetOut(io.Discard)
		cmd.SetErr(io.Discard)
		args := []string{"run", "--socket", filepath.Join(dir, "agent.sock"), "--state-dir", dir}
		cmd.SetArgs(append(args, strings.Fields(c.args)...))
		if err := cmd.Execute(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.args, err, c.want)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%s: left %v, %v", c.args, left, err)
		}
	}
}

// NODE_NAME stands for --node-name.
func TestNodeNameOfTheEnvironment(t *testing.T) {
	t.Setenv("NODE_NAME", "node-a")
	if got := runCommand().Flags().Lookup("node-name").Value.String(); got != "node-a" {
		t.Errorf("node name %q", got)
	}
}
