package nettest

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// RequireRoot fails the test when it does not run as root. It does not skip:
// a suite that skipped everything must not look green.
func RequireRoot(tb testing.TB) {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Fatal("this test makes network namespaces and needs root: run `sudo -E go test ...`, or `unshare --user --map-root-user --net --mount` where that is allowed")
	}
}

// Namespace makes a network namespace that the end of the test removes.
func Namespace(tb testing.TB, prefix string) *NS {
	tb.Helper()
	RequireRoot(tb)
	ns, err := NewNS(prefix)
	if err != nil {
		tb.Fatal(err)
	}
	closeAtEnd(tb, ns)
	return ns
}

// HostNode makes a node that the end of the test removes.
func HostNode(tb testing.TB) *Node {
	tb.Helper()
	RequireRoot(tb)
	node, err := NewNode()
	if err != nil {
		tb.Fatal(err)
	}
	closeAtEnd(tb, node.NS)
	return node
}

func closeAtEnd(tb testing.TB, ns *NS) {
	tb.Cleanup(func() {
		if err := ns.Close(); err != nil {
			tb.Errorf("remove namespace %s: %v", ns.Name(), err)
		}
	})
}

// Recorder returns the directory with the recorder in it.
func Recorder(tb testing.TB) string {
	tb.Helper()
	return must(tb, BuildRecorder)
}

// RecorderAs returns a directory of the test's own with the recorder under
// each of the names.
func RecorderAs(tb testing.TB, names ...string) string {
	tb.Helper()
	dir := tb.TempDir()
	if err := InstallRecorder(dir, names...); err != nil {
		tb.Fatal(err)
	}
	return dir
}

// Plugins returns the directory with the reference CNI plugins.
func Plugins(tb testing.TB) string {
	tb.Helper()
	return must(tb, PluginsDir)
}

// Binary returns the path of the multiplexer executable.
func Binary(tb testing.TB) string {
	tb.Helper()
	return must(tb, BinaryPath)
}

func must(tb testing.TB, f func() (string, error)) string {
	tb.Helper()
	path, err := f()
	if err != nil {
		tb.Fatal(err)
	}
	return path
}

// RequireSnapshot takes a snapshot.
func RequireSnapshot(tb testing.TB, opts SnapshotOptions) string {
	tb.Helper()
	snapshot, err := Snapshot(opts)
	if err != nil {
		tb.Fatal(err)
	}
	return snapshot
}

// RequireSame fails the test when the second snapshot differs from the first,
// and shows how.
func RequireSame(tb testing.TB, before, after string) {
	tb.Helper()
	if diff := cmp.Diff(before, after); diff != "" {
		tb.Fatalf("something changed (-before +after):\n%s", diff)
	}
}
