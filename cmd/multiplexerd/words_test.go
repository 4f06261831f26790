package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// In a pod, --force alone says nothing to whoever uninstalls with the chart.
func TestUninstallSaysHowToForce(t *testing.T) {
	const chart = "uninstall.force=true"
	for name, test := range map[string]struct {
		service string
		chart   bool
	}{"on the node": {"", false}, "in a pod": {"10.96.0.1", true}} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("KUBERNETES_SERVICE_HOST", test.service)
			n := newTree(t)
			if out, err := n.install("--set", "agentSocket="); err != nil {
				t.Fatal(err, out)
			}
			n.journal("/var/lib/cni/multiplexer", "web", []network.Attachment{{Reference: "cluster", Cluster: true}, {Reference: "shop/a"}})
			out, _, err := n.run("uninstall", "--host-root", n.root, "--timeout", "1s", "--settle", "1ms")
			if err == nil {
				t.Fatal(out)
			}
			for what, text := range map[string]string{"the output": out, "the error": err.Error()} {
				if !strings.Contains(text, "or use --force") || strings.Contains(text, chart) != test.chart {
					t.Errorf("%s: %s", what, text)
				}
			}
			if !strings.Contains(out, "1 pod has networks and is waited for") {
				t.Error(out)
			}
			if _, err = n.uninstallCount(2); err == nil || !strings.Contains(err.Error(), "2 pods still have networks: ") {
				t.Error(err)
			}
		})
	}
}

// uninstallCount uninstalls while so many pods have networks.
func (n *tree) uninstallCount(pods int) (string, error) {
	for i := 1; i < pods; i++ {
		n.journal("/var/lib/cni/multiplexer", strings.Repeat("w", i), []network.Attachment{{Reference: "shop/a"}})
	}
	out, _, err := n.run("uninstall", "--host-root", n.root, "--timeout", "1s", "--settle", "1ms")
	return out, err
}

// For install as for uninstall, 0 is for ever.
func TestInstallWithoutATimeout(t *testing.T) {
	n := newTree(t)
	if out, err := n.install("--set", "agentSocket=", "--timeout", "0"); err != nil || n.get("/etc/cni/net.d/00-multiplexer.conflist") == "" {
		t.Errorf("%v: %s", err, out)
	}
	if ctx, stop := within(t.Context(), 0); ctx.Err() != nil {
		t.Error(ctx.Err())
	} else {
		stop()
	}
	ctx, stop := within(t.Context(), time.Nanosecond)
	defer stop()
	if <-ctx.Done(); ctx.Err() != context.DeadlineExceeded {
		t.Error(ctx.Err())
	}
}

func TestMigrateWithoutAFile(t *testing.T) {
	n := newTree(t)
	for _, args := range [][]string{{"migrate"}, {"migrate", "a", "b"}} {
		if _, _, err := n.run(args...); err == nil || !strings.Contains(err.Error(), "migrate FILE, or - for stdin") {
			t.Errorf("%q: %v", args, err)
		}
	}
}

// Both say the same: which of the two it is, nobody remembers.
func TestVersion(t *testing.T) {
	n := newTree(t)
	flag, _, err := n.run("--version")
	word, _, wordErr := n.run("version")
	if err != nil || wordErr != nil || flag != word || !strings.Contains(word, version) {
		t.Errorf("%q, %v; %q, %v", flag, err, word, wordErr)
	}
}
