package sriovguest

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/multiplexer-cni/multiplexer/internal/demosriov/show"
	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// What `make demo-sriov` runs in its guest: it succeeds, and a reader finds
// what he must.
func TestDemo(t *testing.T) {
	m := newMachine(t)
	article, err := os.ReadFile("testdata/article.json")
	m.must(err)
	shown, err := show.Article()
	m.must(err)
	nettest.RequireSame(t, string(article), string(shown))
	agent, err := nettest.AgentPath()
	m.must(err)
	root, err := filepath.Abs("../..")
	m.must(err)
	m.leavesNothing()
	var out bytes.Buffer
	err = show.Run(t.Context(), &out, show.Options{Root: root, Bin: nettest.Binary(t), Agent: agent, Plugins: nettest.Plugins(t)})
	if err != nil {
		t.Errorf("the demo failed: %v", err)
	}
	text := strings.Join(strings.Fields(out.String()), " ") // columns move
	for _, want := range []string{
		`{ "name": "mynet", "type": "sriov", "master": "eth1", "ipam": { "type": "fixipam",`,
		`{"address":"10.55.206.46/26","gateway":"10.55.206.1","interface":3}`,
		"eth0 cluster veth ",
		"net1 mynet VF 0 of eth1 ",
		"net2 data VF 0 of eth0 ",
		"Not kept: the network's own default via 10.55.206.1 dev net1,",
		"is 100, qos 0, 802.1q, was set to 200, qos 0, 802.1q",
		`which the pod called "mine", is ` + m.netdev(m.pfs[1].VFs[0]) + ` again, its MTU 1500.`,
		"Nothing differs.",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the output lacks %q", want)
		}
	}
	if n := len(regexp.MustCompile(`(?m) ok$`).FindAllString(out.String(), -1)); n != 7+6 {
		t.Errorf("%d proofs, want 7 by counters and 6 of the VLAN", n)
	}
	for line := range strings.Lines(out.String()) {
		if len(line) > 121 {
			t.Errorf("%d columns are too many: %s", len(line)-1, line)
		}
	}
	if t.Failed() {
		t.Logf("the demo printed:\n%s", out.String())
	}
}
