package routetest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// What the delegates alone make of a pod is what it is with routing.mode
// plain, and, in guard mode, with the cluster network alone: links, addresses,
// routes of all tables, rules and sysctls.
func TestUntouched(t *testing.T) {
	overShapes(t, func(t *testing.T, w *world) {
		for _, c := range []struct {
			name     string
			networks string
			mode     string
			direct   []string // the delegates, in order
		}{
			{"plain", "red-default, blue-default", "plain", []string{"red-default", "blue-default"}},
			{"plain with default-route", moved(w.red.gateway().all(), "red-default", "red"), "plain", []string{"red-default", "red"}},
			{"cluster network alone", "", "guard", nil},
		} {
			t.Run(c.name, func(t *testing.T) {
				p := w.newPod(t, c.networks, obj{"routing": obj{"mode": c.mode}})
				strictPod(t, p)
				p.add(t)
				got := p.inside(t)
				p.del(t)
				// The same addresses again.
				must(t, os.RemoveAll(w.in("ipam")))
				q := w.newPod(t, "")
				strictPod(t, q)
				q.delegate(t, "cluster/cluster", "eth0")
				for i, name := range c.direct {
					q.delegate(t, "net.d/"+name, []string{"net1", "net2"}[i])
				}
				q.settle(t)
				nettest.RequireSame(t, q.inside(t), got)
				must(t, os.RemoveAll(w.in("ipam")))
				must(t, q.ns.Close())
			})
		}
	})
}

// strictPod gives a pod settings that guard mode would change.
func strictPod(t *testing.T, p *pod) {
	t.Helper()
	for _, which := range []string{"all", "default"} {
		sysctl(t, p.ns, "ipv4/conf/"+which+"/rp_filter", "1")
	}
}

// inside is all that the pod's namespace holds.
func (p *pod) inside(t *testing.T) string {
	t.Helper()
	return nettest.RequireSnapshot(t, nettest.SnapshotOptions{Namespaces: map[string]string{"pod": p.ns.Path()}})
}

// delegate runs the ADD of a network's plugin without multiplexer.
func (p *pod) delegate(t *testing.T, file, ifname string) {
	t.Helper()
	raw, err := os.ReadFile(p.in(file + ".conflist"))
	must(t, err)
	var list struct {
		CNIVersion string `json:"cniVersion"`
		Name       string `json:"name"`
		Plugins    []obj  `json:"plugins"`
	}
	must(t, json.Unmarshal(raw, &list))
	conf := list.Plugins[0]
	conf["cniVersion"], conf["name"] = list.CNIVersion, list.Name
	raw, err = json.Marshal(conf)
	must(t, err)
	plugin := conf["type"].(string)
	bin := filepath.Join(nettest.Plugins(t), plugin)
	if plugin == "shape" {
		bin = shapePlugin()
	}
	out := p.run(t, nettest.CNICall{Bin: bin, Command: "ADD", IfName: ifname, Stdin: raw})
	if e := out.Error(); e != nil {
		t.Fatalf("ADD of %s: %s", file, e)
	}
}
