package installtest

import (
	"fmt"
	"os"
	"testing"

	"github.com/containernetworking/cni/libcni"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// A folder of the cluster network's name holds more of its plugins. Our conf
// has that name too: they are to run once, behind the cluster network's own.
func TestFolderOfTheClusterNetwork(t *testing.T) {
	s := newSite(t)
	s.must(nettest.InstallRecorder(s.in("bin"), "recorder"))
	s.must(os.MkdirAll(s.in("net.d/cluster"), 0o755))
	s.must(os.MkdirAll(s.in("rec"), 0o755))
	s.write("net.d/cluster/50-more.conf", fmt.Sprintf(`{"type": "recorder", "dir": %q, "steps": {"ADD": [], "DEL": []}}`, s.in("rec")))
	calls := func() (verbs []string) {
		all, err := nettest.Calls(s.in("rec"))
		s.must(err)
		for _, c := range all {
			verbs = append(verbs, c.Verb)
		}
		return verbs
	}
	p := s.pod("web", "storage")
	before := s.snapshot(p)
	s.run("install")
	// What containerd 2 and CRI-O read, by the function that both call.
	list, err := libcni.ConfListFromFile(s.in(conf))
	s.must(err)
	s.want("plugins of our list", len(list.Plugins), 1)
	s.ok("ADD", p)
	s.want("calls of the folder's plugin", calls(), []string{"ADD"})
	s.want("NICs", s.interfaces(p), []string{"eth0", "net1"})
	s.ok("DEL", p)
	s.want("calls of the folder's plugin", calls(), []string{"ADD", "DEL"})
	s.run("uninstall")
	nettest.RequireSame(t, before, s.snapshot(p))
}
