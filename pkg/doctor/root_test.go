package doctor

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
	"github.com/multiplexer-cni/multiplexer/pkg/journal"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// wantOnly fails unless all of a check is in one state, and says some words.
func (b *bed) wantOnly(check string, state State, words string) {
	b.Helper()
	found := b.find(check)
	if slices.ContainsFunc(found, func(f Finding) bool { return f.State != state }) || !strings.Contains(found[0].What, words) {
		b.Errorf("%s: want %s %q alone, got %+v", check, state, words, found)
	}
}

// The agent of a pod is not told which runtime the node has, and writes a conf
// without it: that conf is in order, looked at from the node too.
func TestConfOfAnAgentThatKnowsNoRuntime(t *testing.T) {
	b := newBed(t)
	b.file("/etc/containerd/config.toml", "version = 3\n", 0o644)
	b.wantOnly("runtime", OK, "containerd")
	b.wantOnly("conf", OK, "is the first of 2")
}

// A node's /var/run leads to its own /run, wherever its root is seen, and to
// none of this process's.
func TestLinksLeadBelowTheRoot(t *testing.T) {
	b := newBed(t)
	b.must(os.MkdirAll(b.at("/var"), 0o755))
	b.must(os.Symlink("/run", filepath.Join(b.Root, "var", "run")))
	b.options(map[string]any{"agentSocket": "/var/run/agent.sock"})
	b.wantOnly("agent", OK, "")
	b.multus("lives", "/var/run/netns/cni-lives")
	b.file("/run/netns/cni-lives", "", 0o444)
	b.wantOnly("multus", OK, "1 containers that Multus attached")
	b.must(os.Remove(b.at("/run/netns/cni-lives")))
	b.wantOnly("multus", Warn, "container lives, which Multus attached, is left over")

	// The namespace is on the node's own mount alone.
	namespace := nettest.Namespace(t, "pod-").Path()
	b.file("/run/netns/cni-pod", "", 0o444)
	place := b.at("/run/netns/cni-pod")
	b.must(unix.Mount(namespace, place, "", unix.MS_BIND, ""))
	mounted := true
	t.Cleanup(func() {
		if mounted {
			b.must(unix.Unmount(place, unix.MNT_DETACH))
		}
	})
	b.journal("c", "/var/run/netns/cni-pod", (*journal.Entry).Ready)
	b.wantOnly("journals", OK, "1 containers, nothing left over")

	// A container that mounts do not propagate into sees the file alone.
	b.must(unix.Unmount(place, unix.MNT_DETACH))
	mounted = false
	b.wantOnly("journals", NA, "cannot be seen from here")
	b.must(os.Remove(place))
	b.wantOnly("journals", Warn, "is left over")
}

// Where the node's /run is not below the root, as in a bind mount of the root
// alone, nothing is called left over.
func TestNamespacesThatCannotBeSeen(t *testing.T) {
	b := newBed(t)
	b.must(os.Remove(b.at("/run/netns")))
	b.multus("m1", "/run/netns/cni-m1")
	b.multus("m2", "/run/netns/cni-m2")
	b.wantOnly("multus", NA, "2 containers that Multus attached: whether their pods live cannot be seen from here")
	b.journal("c", "/run/netns/cni-c", (*journal.Entry).Ready)
	b.wantOnly("journals", NA, "1 containers: whether their pods live cannot be seen from here")
	boot, err := os.ReadFile(b.BootIDPath)
	b.must(err)
	r := sriov.Record{Pod: "shop/web"}
	r.Boot = strings.TrimSpace(string(boot))
	claim(b, r)
	b.wantOnly("VFs", OK, "1 in pod, of")
}
