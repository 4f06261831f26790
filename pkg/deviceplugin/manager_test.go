package deviceplugin

import (
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/internal/sriovtest/cards"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

const (
	fast    = "intel.com/fast"
	fastAll = `{"resourceList": [{"resourceName": "fast", "selectors": [{"pfNames": ["ens1f0"]}]}]}`
)

// xxv710 is a card with VFs.
func xxv710(vfs int) cards.Card {
	return cards.Card{Model: cards.XXV710, PCI: "0000:17:00.0", Name: "ens1f0", VFs: vfs, NUMA: -1}
}

// vfBed is a node with a card and its VFs, all of them offered.
func vfBed(t *testing.T, vfs int, change ...func(*Manager)) (b *bed, pf string, all []string) {
	t.Helper()
	b = newBed(t)
	pf = b.tree.Add(xxv710(vfs))
	b.configure(fastAll)
	b.run(change...)
	all = b.tree.VFs(pf)
	b.require(fast, all, nil)
	return b, pf, all
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// record is a pod's claim on a VF.
func record(pf, pci string, index int) *sriov.Record {
	return &sriov.Record{Container: "c1", IfName: "net1", Pod: "shop/web", Network: "n", PCI: pci, PF: pf, Index: index,
		Original: sriov.Original{Driver: "iavf", Netdev: "ens1f0v0"}}
}

func TestVFsComeAndGo(t *testing.T) {
	b := newBed(t)
	pf := b.tree.Add(xxv710(0))
	b.configure(fastAll)
	b.run()
	b.require(fast, nil, nil)
	must(t, b.tree.SetVFs(pf, 3))
	all := b.tree.VFs(pf)
	b.manager.Recheck()
	b.require(fast, all, nil)

	must(t, b.tree.SetVFs(pf, 0))
	b.manager.Recheck()
	b.require(fast, nil, all)
	b.requireReason(fast, all[0], "the node has no such device now")
	must(t, b.tree.SetVFs(pf, 2))
	b.manager.Recheck()
	b.require(fast, all[:2], all[2:])

	b.tree.Remove(pf)
	b.manager.Recheck()
	b.require(fast, nil, all)
	b.requireReason(fast, all[0], "its PF "+pf+" is gone")
	if n := strings.Count(b.log.String(), "its PF "+pf+" is gone"); n != 1 {
		t.Errorf("logged %d times", n)
	}
}

func TestDriverChanges(t *testing.T) {
	b := newBed(t)
	pf := b.tree.Add(xxv710(2))
	b.configure(`{"resourceList": [{"resourceName": "fast", "selectors": [{"drivers": ["iavf"]}]}]}`)
	b.run()
	all := b.tree.VFs(pf)
	b.require(fast, all, nil)
	b.tree.Bind(all[0], cards.VFIO)
	b.manager.Recheck()
	b.require(fast, all[1:], all[:1])
	b.requireReason(fast, all[0], "was bound to driver vfio-pci, and was offered with iavf")
	b.tree.Bind(all[0], "")
	b.looked()
	b.requireReason(fast, all[0], "has no driver")
	b.tree.Bind(all[0], "iavf")
	b.manager.Recheck()
	b.require(fast, all, nil)
}

// Any driver will do for the selector: what is listed follows the driver,
// except under a pod.
func TestDriverChangesUnderAPod(t *testing.T) {
	b, pf, all := vfBed(t, 2)
	b.claim(record(pf, all[0], 0))
	b.looked()
	b.tree.Bind(all[0], cards.VFIO)
	b.tree.Bind(all[1], cards.VFIO)
	b.manager.Recheck()
	b.require(fast, all[1:], all[:1])
	b.requireReason(fast, all[0], "was bound to driver vfio-pci while a pod had it with iavf")
	b.unclaim(all[0])
	b.require(fast, all, nil)
}

// The claims are followed without any other event.
func TestQuarantine(t *testing.T) {
	b, pf, all := vfBed(t, 2)
	r := record(pf, all[0], 0)
	b.claim(r)
	b.looked()
	b.require(fast, all, nil)
	r.Failed = "the driver does not answer"
	b.claim(r)
	b.require(fast, all[1:], all[:1])
	b.requireReason(fast, all[0], "is quarantined: the driver does not answer")
	b.unclaim(all[0])
	b.require(fast, all, nil)
	b.write(filepath.Join(b.state, "vf", all[1]+".json"), "{")
	b.require(fast, all[:1], all[1:])
	b.requireReason(fast, all[1], "is damaged")
	b.unclaim(all[1])
	b.require(fast, all, nil)
}

// A VF in a pod stays listed, also by an agent that starts meanwhile; one whose
// PF is in a pod is not to be given away.
func TestInPod(t *testing.T) {
	b, pf, all := vfBed(t, 2)
	b.claim(record(pf, all[0], 0))
	b.tree.Hide(all[0])
	b.looked()
	b.require(fast, all, nil)
	b.run()
	b.looked()
	b.require(fast, all, nil)
	if text := b.log.String(); strings.Contains(text, "cannot be given") {
		t.Error("a VF in a pod was Unhealthy meanwhile")
	}
	b.unclaim(all[0])
	b.tree.Show(all[0])

	own := record(pf, pf, -1)
	own.Original.Netdev = "ens1f0"
	b.claim(own) // it comes before the PF goes, as the plugin does it
	b.tree.Hide(pf)
	b.require(fast, nil, all)
	b.requireReason(fast, all[0], "its PF is held by pod shop/web")
	b.tree.Show(pf)
	b.unclaim(pf)
	b.require(fast, all, nil)
}

// Where RDMA devices belong to one namespace, a VF in a pod shows none.
func TestExclusiveRDMA(t *testing.T) {
	b := newBed(t)
	pf := b.tree.Add(cards.Card{Model: cards.ConnectX6Dx, PCI: "0000:17:00.0", Name: "ens1f0np0", VFs: 2, NUMA: -1})
	b.configure(`{"resourceList": [{"resourceName": "fast", "selectors": [{"isRdma": true, "vendors": ["15b3"]}]}]}`)
	b.run()
	all := b.tree.VFs(pf)
	b.require(fast, all, nil)
	info := b.read("devinfo", "dp", "intel.com-fast-"+all[0]+"-device.json")
	b.claim(record(pf, all[0], 0))
	b.tree.Hide(all[0])
	b.tree.HideRDMA(all[0])
	b.looked()
	b.require(fast, all, nil)
	b.run()
	b.looked()
	b.require(fast, all, nil)
	if now := b.read("devinfo", "dp", "intel.com-fast-"+all[0]+"-device.json"); now != info || !strings.Contains(info, `"rdma-device":"mlx5_`) {
		t.Errorf("device information %s became %s", info, now)
	}
	// What was written down is lost.
	b.end()
	must(t, os.Remove(filepath.Join(b.state, "devices.json")))
	b.hold(map[string]string{all[0]: "shop/web"})
	b.run()
	b.looked()
	b.require(fast, all, nil)
	offers, err := sriov.NewClaims(b.state, "").Offers()
	must(t, err)
	for _, o := range offers {
		if o.PCI == all[0] && len(o.RDMA) > 0 {
			t.Errorf("the PF's RDMA devices are said to be the VF's: %v", o.RDMA)
		}
	}
}

func TestPicked(t *testing.T) {
	b := newBed(t)
	pf := b.tree.Add(xxv710(3))
	all := b.tree.VFs(pf)
	r := record(pf, all[0], 0)
	r.Picked = true
	b.claim(r)
	b.configure(fastAll)
	b.run()
	b.require(fast, all[1:], nil)
	if why := b.manager.Waiting()[all[0]]; !strings.Contains(why, "picked") {
		t.Errorf("waits because %q", why)
	}
	b.unclaim(all[0])
	b.require(fast, all, nil)
}

// What is advertised is written down before kubelet hears of it.
func TestWrittenDown(t *testing.T) {
	b, _, all := vfBed(t, 2)
	advertised, err := sriov.NewClaims(b.state, "").Advertised()
	if err != nil || len(advertised) != 2 || advertised[all[0]] != fast {
		t.Errorf("%v, %v", advertised, err)
	}
	info, err := os.Stat(filepath.Join(b.state, "devices.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	b.configure(`{"resourceList": []}`)
	b.require(fast, nil, nil)
	b.until("nothing is written down", func() bool {
		left, readErr := sriov.NewClaims(b.state, "").Advertised()
		return readErr == nil && len(left) == 0
	})
	b.until("its server has ended", func() bool { return len(b.manager.Offered()) == 0 })
}

// A PF that another call works on makes its own VFs wait, and no others.
func TestPFIsLocked(t *testing.T) {
	b := newBed(t)
	pf := b.tree.Add(xxv710(2))
	other := b.tree.Add(cards.Card{Model: cards.E810C, PCI: "0000:b1:00.0", Name: "ens2f0np0", VFs: 2, NUMA: -1})
	b.configure(`{"resourceList": [{"resourceName": "fast", "selectors": [{"pfNames": ["ens1f0", "ens2f0np0"]}]}]}`)
	unlock := b.lock(pf)
	b.run()
	b.require(fast, b.tree.VFs(other), nil)
	if why := b.manager.Waiting()[b.tree.VFs(pf)[0]]; !strings.Contains(why, "being worked on") {
		t.Errorf("waits because %q", why)
	}
	unlock()
	b.require(fast, append(b.tree.VFs(pf), b.tree.VFs(other)...), nil)
}

// What the node uses itself is never offered. PFs without VFs stand for NICs.
func TestNodeUse(t *testing.T) {
	b := newBed(t)
	b.tree.Add(cards.Card{Model: cards.X710, PCI: "0000:18:00.0", Name: "eno1", NUMA: -1})
	b.tree.Add(cards.Card{Model: cards.X710, PCI: "0000:18:00.1", Name: "eno2", NUMA: -1})
	b.tree.Add(cards.Card{Model: cards.X710, PCI: "0000:18:00.2", Name: "eno3", NUMA: -1})
	b.tree.Add(cards.Card{Model: cards.X710, PCI: "0000:18:00.3", Name: "eno4", NUMA: -1})
	b.tree.Add(cards.Card{Model: cards.I82574, PCI: "0000:19:00.0", Name: "eno5", NUMA: -1})
	pf := b.tree.Add(xxv710(4))
	vfs := b.tree.VFs(pf)
	b.node.change(func() {
		b.node.address = map[string]netip.Prefix{"eno1": netip.MustParsePrefix("192.0.2.5/24"), b.tree.Netdev(vfs[0]): netip.MustParsePrefix("192.0.2.6/24")}
		b.node.defaults = map[string]sriov.DefaultRoute{"eno2": {Priority: 200}, b.tree.Netdev(vfs[1]): {Priority: 100}, b.tree.Netdev(vfs[0]): {Priority: 300}}
		b.node.masters["eno3"], b.node.masters[b.tree.Netdev(vfs[2])] = 7, 7
	})
	must(t, os.Mkdir(filepath.Join(b.tree.Dir(), "class", "net", "eno4", "upper_vlan7"), 0o755))
	b.configure(`{"resourceList": [{"resourceName": "fast", "selectors": [{"vendors": ["8086"]}]}]}`)
	b.run()
	b.require(fast, []string{vfs[0], vfs[3], "0000:19:00.0"}, nil)
	for pci, want := range map[string]string{
		"0000:18:00.0": "has the address 192.0.2.5/24", "0000:18:00.1": "has a default route", "0000:18:00.2": "is in a bridge or bond", "0000:18:00.3": "has vlan7",
		vfs[1]: "has a default route", vfs[2]: "is in a bridge or bond",
	} {
		if got := b.manager.Waiting()[pci]; !strings.Contains(got, want) {
			t.Errorf("%s waits because %q, want %q", pci, got, want)
		}
	}
	// One that was listed, and one that is given up.
	b.node.change(func() {
		b.node.masters[b.tree.Netdev(vfs[3])] = 7
		delete(b.node.masters, "eno3")
	})
	b.manager.Recheck()
	b.require(fast, []string{vfs[0], "0000:18:00.2", "0000:19:00.0"}, []string{vfs[3]})
	b.requireReason(fast, vfs[3], "is in a bridge or bond of the node")
}

// A device goes to the resource that takes it now, once no pod has it.
func TestMove(t *testing.T) {
	b, _, all := vfBed(t, 3)
	b.hold(map[string]string{all[0]: "shop/web"})
	b.looked()
	b.configure(`{"resourceList": [{"resourceName": "slow", "selectors": [{"pfNames": ["ens1f0#0-1"]}]}, {"resourceName": "fast", "selectors": [{"pfNames": ["ens1f0"]}]}]}`)
	b.require("intel.com/slow", all[1:2], nil)
	b.require(fast, []string{all[0], all[2]}, nil)
	b.hold(map[string]string{})
	b.looked()
	b.require("intel.com/slow", all[:2], nil)
	b.require(fast, all[2:], nil)
}

// A device that was just allocated is a pod's, although no pod can be seen.
func TestMoveJustAllocated(t *testing.T) {
	b, _, all := vfBed(t, 1)
	_, _, err := b.kubelet.Allocate(fast, 1)
	must(t, err)
	b.configure(`{"resourceList": [{"resourceName": "slow", "selectors": [{"pfNames": ["ens1f0"]}]}, {"resourceName": "fast", "selectors": [{"pfNames": ["ens9"]}]}]}`)
	b.require("intel.com/slow", nil, nil)
	b.looked()
	b.require(fast, all, nil)
}

// A device whose pod kubelet named moves when kubelet does so no more, and one
// whose pod was never seen after a while: nothing else would ever say so.
func TestMoveAfterItsPod(t *testing.T) {
	const moved = `{"resourceList": [{"resourceName": "slow", "selectors": [{"pfNames": ["ens1f0"]}]}, {"resourceName": "fast", "selectors": [{"pfNames": ["ens9"]}]}]}`
	for name, end := range map[string]func(*bed, string){
		"held": func(b *bed, pci string) {
			b.hold(map[string]string{pci: "shop/web"})
			b.pass(time.Second)
			b.looked()
			b.hold(map[string]string{})
		},
		"never seen": func(b *bed, _ string) { b.pass(freshFor) },
		"tried again": func(b *bed, pci string) { // an ADD that failed leaves the VF to the same pod
			b.claim(&sriov.Record{Container: "c", IfName: "net1", PCI: pci, Since: b.now().Add(time.Second)})
			b.looked()
			b.unclaim(pci)
			b.looked()
			b.require(fast, []string{pci}, nil)
			b.pass(freshFor)
		},
	} {
		t.Run(name, func(t *testing.T) {
			b, _, all := vfBed(t, 1)
			_, _, err := b.kubelet.Allocate(fast, 1)
			must(t, err)
			b.configure(moved)
			b.require("intel.com/slow", nil, nil)
			b.looked()
			b.require(fast, all, nil)
			end(b, all[0])
			b.require("intel.com/slow", all, nil)
			b.require(fast, nil, nil)
		})
	}
}

// What kubelet said long ago says nothing: a pod may have got the device since.
func TestStaleHolders(t *testing.T) {
	b, _, all := vfBed(t, 2)
	b.mu.Lock()
	b.frozen, b.holders = time.Now(), map[string]string{}
	b.mu.Unlock()
	_, _, err := b.kubelet.Allocate(fast, 2)
	must(t, err)
	b.pass(freshFor)
	b.configure(`{"resourceList": [{"resourceName": "slow", "selectors": [{"pfNames": ["ens1f0"]}]}, {"resourceName": "fast", "selectors": [{"pfNames": ["ens9"]}]}]}`)
	b.require("intel.com/slow", nil, nil)
	b.looked()
	b.require(fast, nil, all) // with their pods, and given to no other
}

// One that kubelet allocates while a look goes on stays where it was.
func TestAllocatedMeanwhile(t *testing.T) {
	old := &item{Offer: sriov.Offer{PCI: "0000:17:02.0", Resource: fast}}
	gone := &item{Offer: sriov.Offer{PCI: "0000:17:02.1", Resource: fast}}
	m := &Manager{Log: slog.New(slog.DiscardHandler), items: map[string]*item{old.PCI: old, gone.PCI: gone},
		recent: map[string]time.Time{old.PCI: {}}}
	o := &outcome{items: map[string]*item{old.PCI: {Offer: sriov.Offer{PCI: old.PCI, Resource: "intel.com/slow"}}}}
	left := m.adopt(&sight{}, o)
	if m.items[old.PCI] != old || !o.awaits || len(m.items) != 1 || len(left) != 1 || left[0].PCI != gone.PCI {
		t.Errorf("listed %v, not any more %v, awaits %v", m.items, left, o.awaits)
	}
}

func TestConfiguration(t *testing.T) {
	b := newBed(t)
	all := b.tree.VFs(b.tree.Add(xxv710(2)))
	b.run()
	b.looked()
	if n := len(b.kubelet.Resources()); n != 0 {
		t.Errorf("%d resources without a configuration", n)
	}
	b.configure(fastAll)
	b.require(fast, all, nil)
	b.configure(`{"resourceList": [{`)
	b.until("the broken file is told of", func() bool { return strings.Contains(b.log.String(), "is no JSON") })
	b.looked()
	b.looked()
	if n := strings.Count(b.log.String(), "is no JSON"); n != 1 {
		t.Errorf("told %d times", n)
	}
	b.require(fast, all, nil)
	if got := metric(t, b.manager, "multiplexer_device_plugin_config_errors"); got != 1 {
		t.Errorf("%v errors in the metrics", got)
	}
	b.configure(strings.ReplaceAll(fastAll, "ens1f0", "ens1f0#1"))
	b.require(fast, all[1:], nil)
	if got := metric(t, b.manager, "multiplexer_device_plugin_config_errors"); got != 0 {
		t.Errorf("%v errors in the metrics", got)
	}
	must(t, os.Remove(b.manager.ConfigPath))
	b.require(fast, nil, nil)
	b.configure(fastAll)
	b.require(fast, all, nil)
}

// A ConfigMap's file is a link by way of a directory that is swapped, and its
// directory may come late.
func TestConfigMap(t *testing.T) {
	b := newBed(t)
	all := b.tree.VFs(b.tree.Add(xxv710(2)))
	mount := filepath.Join(b.dir, "late", "mount")
	b.run(func(m *Manager) { m.ConfigPath = filepath.Join(mount, "config.json") })
	b.looked()
	b.write(filepath.Join(mount, "..1", "config.json"), fastAll)
	must(t, os.Symlink("..1", filepath.Join(mount, "..data")))
	must(t, os.Symlink("..data/config.json", filepath.Join(mount, "config.json")))
	b.require(fast, all, nil)
	b.write(filepath.Join(mount, "..2", "config.json"), strings.ReplaceAll(fastAll, "ens1f0", "ens1f0#0"))
	must(t, os.Symlink("..2", filepath.Join(mount, "..data_tmp")))
	must(t, os.Rename(filepath.Join(mount, "..data_tmp"), filepath.Join(mount, "..data")))
	b.require(fast, all[:1], nil)
	// The whole directory is replaced.
	must(t, os.RemoveAll(mount))
	b.require(fast, nil, nil)
	b.write(filepath.Join(mount, "config.json"), fastAll)
	b.require(fast, all, nil)
}

// An agent that starts anew knows what pods have, although the node has it not
// any more, and forgets the rest.
func TestRestart(t *testing.T) {
	b, pf, all := vfBed(t, 3)
	b.hold(map[string]string{all[0]: "shop/web"})
	b.looked()
	b.end()
	must(t, b.tree.SetVFs(pf, 0))
	b.hold(nil)
	b.run()
	b.require(fast, nil, all) // kubelet does not say yet which are a pod's
	b.hold(map[string]string{all[0]: "shop/web"})
	b.require(fast, nil, all[:1])
	b.hold(map[string]string{})
	b.looked()
	must(t, b.tree.SetVFs(pf, 3))
	b.manager.Recheck()
	b.require(fast, all, nil)
	b.kubelet.RequireRestart(t)
	b.require(fast, all, nil)
}

// VFs that were taken away for good are forgotten in the end.
func TestForgotten(t *testing.T) {
	b, pf, all := vfBed(t, 3)
	must(t, b.tree.SetVFs(pf, 0))
	must(t, b.tree.SetVFs(pf, 1))
	b.hold(map[string]string{all[2]: "shop/web"})
	b.manager.Recheck()
	b.require(fast, all[:1], all[1:])
	b.pass(forgotten)
	b.manager.Recheck()
	b.require(fast, all[:1], all[2:])
	b.hold(map[string]string{})
	b.looked()
	b.require(fast, all[:1], nil)
}

// VFs that are still to be provisioned wait; listed ones are Unhealthy then,
// except for those that pods have.
func TestWithhold(t *testing.T) {
	var b *bed
	why := "gets VFs just now"
	var configured, changes int
	b = newBed(t)
	pf := b.tree.Add(xxv710(2))
	all := b.tree.VFs(pf)
	b.configure(fastAll)
	b.run(func(m *Manager) {
		m.Withhold = func(p *sriov.PF, _ string) string {
			b.mu.Lock()
			defer b.mu.Unlock()
			if p.PCI != pf || configured == 0 {
				t.Errorf("asked about PF %s after %d configurations", p.PCI, configured)
			}
			return why
		}
		m.OnConfig = func(c *resourceConfig) {
			m.Offered() // may be called here
			b.mu.Lock()
			defer b.mu.Unlock()
			configured += len(c.Resources)
		}
		m.OnChange = func() {
			b.mu.Lock()
			defer b.mu.Unlock()
			changes++
		}
	})
	b.until("the VFs wait", func() bool { return b.manager.Waiting()[all[1]] == why })
	b.require(fast, nil, nil)
	set := func(text string) {
		b.mu.Lock()
		defer b.mu.Unlock()
		why = text
	}
	set("")
	b.manager.Recheck()
	b.require(fast, all, nil)
	b.mu.Lock()
	if changes != 1 { // the start; not what was asked for
		t.Errorf("told of %d changes", changes)
	}
	b.mu.Unlock()
	b.claim(record(pf, all[0], 0))
	b.looked()
	set("gets other VFs")
	b.manager.Recheck()
	b.require(fast, all[:1], all[1:])
	b.requireReason(fast, all[1], "gets other VFs")
}

// A node that cannot be seen keeps what it has.
func TestCannotSee(t *testing.T) {
	b, _, all := vfBed(t, 1)
	b.node.change(func() { b.node.err = network.IO.Errorf("no more sockets") })
	b.looked()
	b.require(fast, all, nil)
	if !strings.Contains(b.log.String(), "no more sockets") {
		t.Error("not said")
	}
	b.node.change(func() { b.node.err = nil })
	b.looked()
	b.require(fast, all, nil)
}

// Both ways of kubelet, and a resource that excludes topology.
func TestTopology(t *testing.T) {
	b := newBed(t)
	card := xxv710(2)
	card.NUMA = 1
	all := b.tree.VFs(b.tree.Add(card))
	b.configure(`{"resourceList": [{"resourceName": "near", "selectors": [{"pfNames": ["ens1f0#0"]}]}, {"resourceName": "any", "excludeTopology": true, "selectors": [{"pfNames": ["ens1f0#1"]}]}]}`)
	b.run()
	b.require("intel.com/near", all[:1], nil)
	b.require("intel.com/any", all[1:], nil)
	b.manager.mu.Lock()
	lists := lists(b.manager.config.Config, b.manager.items)
	b.manager.mu.Unlock()
	if d := lists["intel.com/near"][0]; d.GetTopology().GetNodes()[0].GetID() != 1 {
		t.Errorf("near: %v", d)
	}
	if d := lists["intel.com/any"][0]; d.GetTopology() != nil {
		t.Errorf("any: %v", d)
	}
}

// devices.json is lost, and `master` picks what is listed: kubelet does not
// give it to another pod.
func TestPickedWhileListed(t *testing.T) {
	b, pf, all := vfBed(t, 2)
	must(t, os.Remove(filepath.Join(b.state, "devices.json")))
	r := record(pf, all[0], 0)
	r.Picked = true
	b.claim(r)
	b.require(fast, all[1:], all[:1])
	b.requireReason(fast, all[0], "was picked by `master` for pod shop/web")
	b.unclaim(all[0])
	b.require(fast, all, nil)
}

// A VF that a pod has by a network's deviceID, without kubelet, is not offered
// meanwhile.
func TestHeldByDeviceID(t *testing.T) {
	b := newBed(t)
	pf := b.tree.Add(xxv710(2))
	all := b.tree.VFs(pf)
	b.claim(record(pf, all[0], 0))
	b.configure(fastAll)
	b.run()
	b.require(fast, all[1:], nil)
	if why := b.manager.Waiting()[all[0]]; !strings.Contains(why, "is held by pod shop/web") {
		t.Errorf("it waits because %q", why)
	}
	b.unclaim(all[0])
	b.require(fast, all, nil)
}

// While kubelet does not say what pods have, what the configuration gives up
// stays listed, and is not given away any more.
func TestGivenUpWhileNotKnown(t *testing.T) {
	b, _, all := vfBed(t, 3)
	b.hold(nil)
	b.end()
	b.configure(`{"resourceList": [{"resourceName": "fast", "selectors": [{"pfNames": ["ens1f0#0"]}]}, {"resourceName": "slow", "selectors": [{"pfNames": ["ens1f0#1"]}]}]}`)
	b.run()
	b.require(fast, all[:1], all[1:])
	b.requireReason(fast, all[1], "goes to intel.com/slow as soon as")
	b.requireReason(fast, all[2], deselected)
	b.hold(map[string]string{})
	b.require(fast, all[:1], nil)
	b.require("intel.com/slow", all[1:2], nil)
}

// What is no file, such as the directory that a mount makes, or a FIFO, changes
// nothing of what was offered, also before the start.
func TestConfigurationIsNoFile(t *testing.T) {
	b, _, all := vfBed(t, 2)
	path := filepath.Join(b.dir, "config", "config.json")
	must(t, os.Remove(path))
	must(t, unix.Mkfifo(path, 0o600))
	b.looked()
	b.require(fast, all, nil)
	must(t, os.Remove(path))
	must(t, os.Mkdir(path, 0o700))
	b.run()
	b.until("the file is missed", func() bool { return strings.Contains(b.log.String(), "is no regular file") && b.looks() > 0 })
	if offers, err := sriov.NewClaims(b.state, "").Offers(); err != nil || len(offers) != 2 {
		t.Errorf("%v are offered, %v", offers, err)
	}
	must(t, os.Remove(path))
	b.configure(fastAll)
	b.require(fast, all, nil)
}

// The directory of claims is removed and made again, as when multiplexer is
// installed anew.
func TestClaimsDirRemade(t *testing.T) {
	b, pf, all := vfBed(t, 2)
	must(t, os.RemoveAll(filepath.Join(b.state, "vf")))
	b.until("it is made again", func() bool { _, err := os.Stat(filepath.Join(b.state, "vf")); return err == nil })
	b.looked()
	r := record(pf, all[0], 0)
	r.Failed = "the driver does not answer"
	b.claim(r)
	b.require(fast, all[1:], all[:1])
}

// Two resources whose files of device information have one name.
func TestDeviceInfoOfOneName(t *testing.T) {
	b, _, all := vfBed(t, 1)
	for _, prefix := range []string{"intel.com\", \"resourceName\": \"a-b", "intel.com-a\", \"resourceName\": \"b"} {
		b.configure(strings.ReplaceAll(fastAll, `"resourceName": "fast"`, `"resourcePrefix": "`+prefix+`"`))
		b.until("it is offered", func() bool {
			offers, err := sriov.NewClaims(b.state, "").Offers()
			return err == nil && len(offers) == 1 && offers[0].Resource == strings.ReplaceAll(prefix, `", "resourceName": "`, "/")
		})
	}
	if names := ls(t, filepath.Join(b.dir, "devinfo", "dp")); len(names) != 1 {
		t.Errorf("the files of %s are %q", all[0], names)
	}
}
