package sriovguest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"

	"github.com/multiplexer-cni/multiplexer/internal/guest"
	"github.com/multiplexer-cni/multiplexer/internal/nettest"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

const vfsPerPF = 7

// sys is the guest's own.
const sys = sriov.Sysfs("/sys")

// machine is the guest as a node: multiplexer's plugin, a bridge as the
// cluster's network, and whatever networks a test writes.
type machine struct {
	t    *testing.T
	node *nettest.Node
	dir  string
	pods int
	pfs  []sriov.PF
}

// newMachine gives the test the guest, with seven VFs on each PF.
func newMachine(t *testing.T) *machine {
	t.Helper()
	node, err := nettest.OwnNode()
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, node: node, dir: t.TempDir()}
	for _, dir := range []string{"state", "leases", "net.d", "cluster"} {
		m.must(os.MkdirAll(m.in(dir), 0o755))
	}
	m.write("cluster/10-cluster.conflist", obj{"cniVersion": "1.0.0", "name": "cluster", "plugins": []any{obj{
		"type": "bridge", "bridge": "cluster0", "isDefaultGateway": true,
		"ipam": obj{"type": "host-local", "dataDir": m.in("leases"), "ranges": []any{[]any{obj{"subnet": "10.244.7.0/24"}}}},
	}}})
	for _, pci := range guest.PFs() {
		m.pfs = append(m.pfs, m.makeVFs(pci, vfsPerPF))
	}
	t.Cleanup(func() {
		if t.Failed() { // its VFs are no state to begin the next test with
			for _, pci := range guest.PFs() {
				m.must(os.WriteFile(filepath.Join("/sys/bus/pci/devices", pci, "sriov_numvfs"), []byte("0"), 0))
			}
		}
	})
	return m
}

type obj = map[string]any

func (m *machine) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) in(name string) string { return filepath.Join(m.dir, name) }

func (m *machine) write(name string, content any) {
	m.t.Helper()
	raw, err := json.Marshal(content)
	m.must(err)
	m.must(os.WriteFile(m.in(name), raw, 0o644))
}

// network writes a network's configuration, of one plugin.
func (m *machine) network(name string, plugin obj) {
	m.t.Helper()
	m.write("net.d/"+name+".conflist", obj{"cniVersion": "1.0.0", "name": name, "plugins": []any{plugin}})
}

// ipam is host-local's part of a configuration.
func (m *machine) ipam(subnet string) obj { return m.ipamFrom(subnet, "") }

// ipamFrom is ipam for a second network on the same subnet.
func (m *machine) ipamFrom(subnet, first string) obj {
	addresses := obj{"subnet": subnet}
	if first != "" {
		addresses["rangeStart"] = first
	}
	return obj{"type": "host-local", "dataDir": m.in("leases"), "ranges": []any{[]any{addresses}}}
}

// makeVFs gives a PF that many VFs, takes it up, and waits for their devices.
func (m *machine) makeVFs(pci string, n int) sriov.PF {
	m.t.Helper()
	pf, err := sys.PF(pci)
	m.must(err)
	m.link(pf.Name, func(l netlink.Link) error { return netlink.LinkSetUp(l) })
	if len(pf.VFs) != n {
		numvfs := filepath.Join("/sys/bus/pci/devices", pci, "sriov_numvfs")
		m.must(os.WriteFile(numvfs, []byte("0"), 0))
		m.must(os.WriteFile(numvfs, fmt.Append(nil, n), 0))
	}
	pf, err = sys.PF(pci)
	m.must(err)
	// The kernel gives it when the link is there, seconds after it was taken up.
	m.eventually("PF's own address", func() error { return m.hasAddress(pf.Name) })
	for i := range pf.VFs {
		m.eventually("VF's network device", func() error {
			if entries, rerr := os.ReadDir(filepath.Join("/sys/bus/pci/devices", pf.VFs[i], "net")); rerr != nil || len(entries) != 1 {
				return fmt.Errorf("%s: %v, %w", pf.VFs[i], entries, rerr)
			}
			return nil
		})
	}
	return *pf
}

// hasAddress returns an error unless a link has the kernel's IPv6 address.
func (m *machine) hasAddress(name string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	addresses, err := netlink.AddrList(l, netlink.FAMILY_V6)
	if err == nil && len(addresses) == 0 {
		err = fmt.Errorf("%s has none", name)
	}
	return err
}

func (m *machine) link(name string, do func(netlink.Link) error) {
	m.t.Helper()
	l, err := netlink.LinkByName(name)
	m.must(err)
	m.must(do(l))
}

// patience is how long something may take: emulated cards take their time, on
// a busy machine most of all.
const patience = 2 * time.Minute

// eventually tries until it succeeds.
func (m *machine) eventually(what string, try func() error) {
	m.t.Helper()
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if err = try(); err == nil {
			return
		}
	}
	m.t.Fatalf("%s: %v", what, err)
}

// pod is a container that asks for networks.
type pod struct {
	*machine
	id       string
	netns    *nettest.NS
	networks string // the annotation
	result   *current.Result
}

func (m *machine) pod(networks string) *pod {
	m.t.Helper()
	m.pods++
	return &pod{machine: m, id: fmt.Sprintf("%s-%d", strings.NewReplacer("/", "-").Replace(m.t.Name()), m.pods), netns: nettest.Namespace(m.t, "pod-"), networks: networks}
}

// call is the runtime's call for this pod.
func (p *pod) call(verb string) nettest.CNICall {
	p.t.Helper()
	conf, err := json.Marshal(obj{
		"cniVersion": "1.1.0", "name": "multiplexer", "type": "multiplexer", "agentSocket": "",
		"clusterNetwork": p.in("cluster"), "confDir": p.in("net.d"), "stateDir": p.in("state"),
		"runtimeConfig": obj{"io.kubernetes.cri.pod-annotations": obj{"k8s.v1.cni.cncf.io/networks": p.networks}},
	})
	p.must(err)
	return nettest.CNICall{
		Bin: nettest.Binary(p.t), Command: verb, ContainerID: p.id, Netns: p.netns.Path(), IfName: "eth0",
		Path: []string{nettest.Plugins(p.t)}, Stdin: conf,
		Args: "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=" + strings.ToLower(p.id),
	}
}

func (p *pod) run(call nettest.CNICall) nettest.Outcome {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 2*time.Minute)
	defer cancel()
	outcome, err := p.node.CNI(ctx, call)
	p.must(err)
	if s := strings.TrimSpace(string(outcome.Stderr)); s != "" {
		p.t.Logf("%s: %s", call.Command, s)
	}
	return outcome
}

// do makes a call that must succeed.
func (p *pod) do(verb string) nettest.Outcome {
	p.t.Helper()
	outcome := p.run(p.call(verb))
	if e := outcome.Error(); e != nil {
		p.t.Fatalf("%s: %s", verb, e)
	}
	return outcome
}

func (p *pod) add() *pod {
	p.t.Helper()
	result, err := p.do("ADD").Result()
	p.must(err)
	p.result = result
	return p
}

// refused makes a call that must fail, and returns its error.
func (p *pod) refused(verb string) *nettest.CNIError {
	p.t.Helper()
	e := p.run(p.call(verb)).Error()
	if e == nil {
		p.t.Fatalf("%s succeeded", verb)
	}
	return e
}

// address returns the pod's address on an interface.
func (p *pod) address(ifname string) string {
	p.t.Helper()
	for _, ip := range p.result.IPs {
		if p.result.Interfaces[*ip.Interface].Name == ifname {
			a, _ := netip.AddrFromSlice(ip.Address.IP)
			return a.Unmap().String()
		}
	}
	p.t.Fatalf("%s has no address: %+v", ifname, p.result)
	return ""
}

// ping sends until an answer comes: a VF's link takes a second or more.
func (p *pod) ping(from, to string) {
	p.t.Helper()
	p.eventually("ping "+to+" by "+from, func() error {
		return p.probe(from, to)
	})
}

// probe sends one packet and waits a second for its answer.
func (p *pod) probe(from, to string) error {
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Second)
	defer cancel()
	return p.netns.PingICMP(ctx, nettest.From{Device: from}, to)
}

// unreachable sends for a while, to a pod whose link is known to work.
func (p *pod) unreachable(from, to string) {
	p.t.Helper()
	for range 2 {
		if err := p.probe(from, to); err == nil {
			p.t.Errorf("%s answers on %s of %s", to, from, p.id)
		}
	}
}

// leavesNothing makes the test fail if it ends with the machine in another
// state than now. The node's bridge, which stays, is there by then.
func (m *machine) leavesNothing() {
	m.t.Helper()
	m.pod("").add().do("DEL")
	before := m.snapshot()
	m.t.Cleanup(func() {
		// A PF that came up again takes its time for its own addresses.
		after := m.snapshot()
		for end := time.Now().Add(patience); after != before && !m.t.Failed() && time.Now().Before(end); after = m.snapshot() {
			time.Sleep(100 * time.Millisecond)
		}
		nettest.RequireSame(m.t, before, after)
	})
}

// detach deletes pods, the last first.
func detach(pods ...*pod) {
	for _, p := range slices.Backward(pods) {
		p.t.Helper()
		p.do("DEL")
	}
}

// inPod runs a program in the pod.
func (p *pod) inPod(name string, args ...string) string {
	p.t.Helper()
	out, err := (&nettest.Node{NS: p.netns}).Output(name, args...)
	p.must(err)
	return string(out)
}

// onNode runs a program on the node.
func (m *machine) onNode(name string, args ...string) string {
	m.t.Helper()
	out, err := m.node.Output(name, args...)
	m.must(err)
	return string(out)
}

// contains fails unless a text has all of these in it.
func contains(t *testing.T, text string, wanted ...string) {
	t.Helper()
	for _, w := range wanted {
		if !strings.Contains(text, w) {
			t.Errorf("%q lacks %q", text, w)
		}
	}
}

// nic is the interface of the result with this name.
func (p *pod) nic(name string) *current.Interface {
	p.t.Helper()
	for _, i := range p.result.Interfaces {
		if i.Name == name && i.Sandbox != "" {
			return i
		}
	}
	p.t.Fatalf("the result has no %s: %+v", name, p.result)
	return nil
}

// snapshot is all that pods could leave behind: namespaces, state, leases, and
// what each PF and VF is like.
func (m *machine) snapshot() string {
	m.t.Helper()
	text := nettest.RequireSnapshot(m.t, nettest.SnapshotOptions{
		Namespaces: map[string]string{"node": m.node.Path()},
		Dirs: []nettest.SnapshotDir{
			{Path: m.in("state/journal"), Label: "JOURNAL", Files: nettest.FileHash},
			{Path: m.in("state/release"), Label: "RELEASE", Files: nettest.FileHash},
		},
	})
	claims, err := filepath.Glob(m.in("state/vf/*.json"))
	m.must(err)
	leases, err := filepath.Glob(m.in("leases/*/[0-9]*"))
	m.must(err)
	return text + fmt.Sprintf("\nclaims %v\nleases %v\n%s", claims, leases, m.cards())
}

// cards describes the PFs, their VFs and these' network devices on the node.
func (m *machine) cards() string {
	m.t.Helper()
	host, err := sriov.Linux{Sys: sys}.Open("")
	m.must(err)
	defer host.Close()
	links, err := host.Links()
	m.must(err)
	var out strings.Builder
	for _, before := range m.pfs {
		pf, pfErr := sys.PF(before.PCI)
		m.must(pfErr)
		link, linkErr := host.LinkByName(pf.Name)
		m.must(linkErr)
		vfs, readErr := host.VFs(link.Index)
		m.must(readErr)
		fmt.Fprintf(&out, "PF %s %s mtu %d up %t\n", pf.PCI, pf.Name, link.MTU, link.Up)
		for _, vf := range vfs {
			fmt.Fprintf(&out, "  VF %d %+v\n", vf.Index, vf.Admin)
		}
		for _, pci := range pf.VFs {
			driver, rerr := os.Readlink("/sys/bus/pci/devices/" + pci + "/driver")
			fmt.Fprintf(&out, "  %s driver %s %v", pci, filepath.Base(driver), rerr)
			for _, l := range links {
				if l.PCI == pci {
					slices.Sort(l.AltNames)
					fmt.Fprintf(&out, " %s %v %s mtu %d up %t", l.Name, l.AltNames, l.MAC, l.MTU, l.Up)
				}
			}
			out.WriteString("\n")
		}
	}
	return out.String()
}
