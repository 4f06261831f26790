package install

import (
	"errors"
	"os"
	"testing"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// A directory that others use is not ours for a file of ours in it, such as
// the lock of an install that left it open.
func TestStateOfOthersStaysOpen(t *testing.T) {
	mode := func(n *node) os.FileMode {
		info, err := os.Stat(n.path("/run"))
		if err != nil {
			t.Fatal(err)
		}
		return info.Mode().Perm()
	}
	n := newNode(t)
	n.put("/etc/cni/net.d/10-flannel.conflist", flannel)
	n.put(n.in("/run/dbus/socket"), "")
	n.put(n.in("/run/lock/a"), "")
	for range 2 {
		if err := n.inState("/run").Install(t.Context(), serving); err != nil || mode(n) != 0o755 {
			t.Fatalf("err %v, mode %o, %q", err, mode(n), n.files("/run"))
		}
	}
	if heard := n.heard(Failed); len(heard) == 0 {
		t.Error("it is not said")
	} else {
		wantText(t, heard[len(heard)-1].Message, "/run is open to others", `it holds "dbus"`)
	}
	if err := Private(n.path("/run")); !errors.Is(err, network.Invalid) || mode(n) != 0o755 {
		t.Errorf("err %v, mode %o", err, mode(n))
	}
}

// All that is in a stateDir that is ours alone.
func TestStateWithAllThatIsOurs(t *testing.T) {
	n := newNode(t)
	for _, name := range []string{
		"journal/c1", "running/c1", "release/c1", "cache/results/x", "vf/0000:01:00.0", "pf/0000:01:00.0.json", "lost+found/1",
		"cluster.json", ".cluster.json.123", "devices.json", "devices.json.123.tmp", "pools.json", "pools.json.1.tmp", "provision.json", "provision.json.tmp",
		"install.lock", recordFile, "." + recordFile + ".new", network.UninstallingFile, "." + network.UninstallingFile + ".new",
	} {
		n.put(n.in("/srv/state/"+name), "")
	}
	if err := Private(n.path("/srv/state")); err != nil {
		t.Error(err)
	}
}
