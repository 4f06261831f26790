package install

import (
	"os"
	"strings"
	"testing"
)

// Whose journals are in the old stateDir could never be released by a conf
// that names another one.
func TestInstallKeepsTheStateDirOfPodsThatRun(t *testing.T) {
	const journal = "/var/lib/cni/multiplexer/journal/c1"
	n := newInstalled(t)
	n.put(journal, "")
	moved := func() error {
		again := n.restarted()
		again.Options = []byte(`{"stateDir": "/var/lib/elsewhere"}`)
		return again.Install(t.Context(), serving)
	}
	was := n.get(confFile)
	err := moved()
	if err == nil || n.get(confFile) != was {
		t.Fatalf("err %v, conf %s", err, n.get(confFile))
	}
	wantText(t, err.Error(), "/var/lib/elsewhere", "/var/lib/cni/multiplexer, with the journals of 1 containers", "drain the node and uninstall first")

	// As a container sees it, into which the old directory is not mounted.
	hidden := n.path("/var/lib/cni/multiplexer")
	if err = os.Rename(hidden, hidden+".hidden"); err != nil {
		t.Fatal(err)
	}
	if err = moved(); err == nil || n.get(confFile) != was {
		t.Fatalf("err %v, conf %s", err, n.get(confFile))
	}
	wantText(t, err.Error(), "where nobody can see whether pods still have networks")

	if err = os.Rename(hidden+".hidden", hidden); err != nil {
		t.Fatal(err)
	}
	if err = os.Remove(n.path(journal)); err != nil {
		t.Fatal(err)
	}
	if err = moved(); err != nil || !strings.Contains(n.get(confFile), "/var/lib/elsewhere") {
		t.Errorf("no pod is left: %v, conf %s", err, n.get(confFile))
	}
}
