package routing

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What goes while it is given back went with all that was set in it.
func TestUndoOfWhatGoes(t *testing.T) {
	const kept, gone = "ipv4/conf/net1/rp_filter", "ipv4/conf/net2/rp_filter"
	plan := &Plan{Sysctls: []Sysctl{{Key: gone, Want: "2", Had: "1"}, {Key: kept, Want: "2", Had: "1"}}}
	t.Run("interface", func(t *testing.T) {
		p := newWorldPod(t)
		p.addLink("net1")
		p.write(p.ns, kept, "2")
		p.must(p.pod.putBack(plan.Sysctls)) // as if both had been read
		var got []byte
		p.must(p.ns.Do(func() (err error) {
			got, err = os.ReadFile(filepath.Join(procSysNet, kept))
			return err
		}))
		if value := strings.TrimSpace(string(got)); value != "1" {
			t.Errorf("the interface that stays has %s", value)
		}
	})
	t.Run("namespace", func(t *testing.T) {
		p := newWorldPod(t)
		p.addLink("net1")
		p.must(p.ns.Close())
		p.must(p.pod.undo(plan)) // opened before
		p.must(Undo(p.ns.Path(), plan))
	})
}
