package provision_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/internal/sriovtest"
	"github.com/multiplexer-cni/multiplexer/pkg/provision"
	"github.com/multiplexer-cni/multiplexer/pkg/resource"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

const aVF = "0000:01:10.0"

func capable() sriovtest.Driver {
	d := sriovtest.Slowly(20 * time.Millisecond)
	d.KeepsUpNames = false
	return d
}

// The whole of it: PF up, MTU, VFs with fixed addresses, and nothing offered
// before that.
func TestFromNothing(t *testing.T) {
	n := newNode(t, capable())
	n.card.Late = true
	p, err := provision.New(n.options)
	n.must(err)
	if why := p.Withhold(n.pf()); why != "" {
		t.Errorf("withheld without a wish: %s", why)
	}
	p.Configure([]resource.PF{n.want(4, "", 8000)})
	if why := p.Withhold(n.pf()); !strings.Contains(why, "is being set up") {
		t.Errorf("before it is done: %q", why)
	}
	n.start(n.want(4, "", 8000))
	n.is(provision.Done)
	if got := n.uplink(); !got.Up || got.MTU != 8000 {
		t.Errorf("PF is %+v", got)
	}
	if got := n.card.Written(); !reflect.DeepEqual(got, []int{4}) {
		t.Errorf("sriov_numvfs was written %v", got)
	}
	for i := range 4 {
		d, link, admin := n.vf(i)
		if d.Driver != "capablevf" || link.MTU != 8000 || admin.MAC != link.MAC {
			t.Errorf("%s: driver %s, %+v, PF holds %+v", d, d.Driver, link, admin)
		}
		if why := n.agent.WithholdVF(n.pf(), d.PCI); why != "" {
			t.Errorf("%s is withheld: %s", d, why)
		}
	}
	if why := n.agent.Withhold(n.pf()); why != "" {
		t.Errorf("withheld: %s", why)
	}
	if info, statErr := os.Stat(n.recordPath()); statErr != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the record: %v, %v", info, statErr)
	}
	status := n.onDisk()
	if len(status) != 1 || status[0].State != provision.Done || status[0].PCI != n.card.PFPCI() || status[0].NumVFs != 4 {
		t.Errorf("another process reads %+v", status)
	}
}

// Drivers that are slow, busy, or have no setting for an address.
func TestDrivers(t *testing.T) {
	for _, d := range []sriovtest.Driver{sriovtest.IGB(), sriovtest.LateOne(), sriovtest.BusyOne(), sriovtest.Mute(), sriovtest.Switchdev()} {
		t.Run(d.Name, func(t *testing.T) {
			n := newNode(t, d)
			n.card.Load("vfio-pci")
			n.start(n.want(2, "vfio-pci", 0))
			n.is(provision.Done)
			for i := range 2 {
				vf, _, admin := n.vf(i)
				if vf.Driver != "vfio-pci" || d.Name != "mute" && admin.MAC == "00:00:00:00:00:00" {
					t.Errorf("%s: driver %s, PF holds %+v", vf, vf.Driver, admin)
				}
			}
		})
	}
}

// What is impossible is said with both numbers, or with what to do, and the PF
// is left alone.
func TestRefused(t *testing.T) {
	for _, c := range []struct {
		pf   resource.PF
		says []string
	}{
		{resource.PF{Name: "ens1f0", NumVFs: 8}, []string{"numVfs 8", "0 to 7"}},
		{resource.PF{Name: "ens1f0", NumVFs: 2, Driver: "vfio-pci"}, []string{"modprobe vfio-pci"}},
		{resource.PF{Name: "ens1f0", NumVFs: 2, Driver: "../x"}, []string{`driver "../x"`}},
		{resource.PF{Name: "ens1f0", NumVFs: 2, MTU: 9999}, []string{"mtu 9999", "9978"}},
		{resource.PF{Name: "lo", NumVFs: 2}, []string{`"lo"`, "is no PF with SR-IOV"}},
		{resource.PF{Name: "../x", NumVFs: 2}, []string{"../x"}},
		{resource.PF{PCI: "x/../y", NumVFs: 2}, []string{"pciAddress"}},
	} {
		t.Run(c.says[0], func(t *testing.T) {
			n := newNode(t, capable())
			if c.pf.Name == "lo" {
				n.must(os.Mkdir(filepath.Join(string(n.card.Sys()), "class/net/lo"), 0o755))
			}
			n.start(c.pf)
			n.is(provision.Failed, c.says...)
			if got := n.card.Written(); len(got) != 0 || n.uplink().Up || !n.noRecord() {
				t.Errorf("touched: written %v, PF %+v", got, n.uplink())
			}
		})
	}
}

// A PF that has its VFs already is not touched, whoever has them.
func TestRightAlready(t *testing.T) {
	n := newNode(t, capable())
	stop := n.start(n.want(4, "", 0))
	n.is(provision.Done)
	stop()
	n.claim(aVF, "boot 1")
	n.kubelet(nil)
	before := len(n.card.Written())
	n.start(n.want(4, "", 0))
	if why := n.agent.Withhold(n.pf()); why != "" {
		t.Errorf("after a restart withheld: %s", why)
	}
	n.agent.Poke()
	n.is(provision.Done)
	if got := n.card.Written(); len(got) != before {
		t.Errorf("written %v", got)
	}
}

// VFs of somebody else's are taken over if they are as many as wished.
func TestForeignVFs(t *testing.T) {
	n := newNode(t, capable())
	n.card.Foreign(4)
	stop := n.start(n.want(3, "", 0))
	n.is(provision.Failed, "has 4 VFs that something else made", "set numVfs to 4")
	if !n.noRecord() {
		t.Error("there is a record of what is not ours")
	}
	stop()
	n.card.Load("vfio-pci")
	n.start(n.want(4, "vfio-pci", 0))
	n.is(provision.Done)
	if d, _, _ := n.vf(3); d.Driver != "vfio-pci" {
		t.Errorf("%s has driver %s", d, d.Driver)
	}
	n.agent.Configure(nil)
	n.eventually("undone", n.noRecord)
	if d, _, admin := n.vf(3); d.Driver != "capablevf" || len(n.pf().VFs) != 4 || admin.MAC != "00:00:00:00:00:00" {
		t.Errorf("after: %d VFs, %s driver %s, PF holds %+v", len(n.pf().VFs), d, d.Driver, admin)
	}
	if got := n.card.Written(); len(got) != 0 {
		t.Errorf("written %v", got)
	}
}

// While a pod has a VF the number stays, by whatever word it is known.
func TestPodsHold(t *testing.T) {
	for name, take := range map[string]func(*node) (release func()){
		"a claim": func(n *node) func() { return n.claim(aVF, "boot 1") },
		"shop/disk": func(n *node) func() {
			n.kubelet(map[string]string{aVF: "shop/disk"})
			return func() { n.kubelet(map[string]string{}) }
		},
		"kubelet does not say": func(n *node) func() {
			n.kubelet(nil)
			return func() { n.kubelet(map[string]string{}) }
		},
		"sriov-cni": func(n *node) func() {
			file := filepath.Join(n.options.Claims.Foreign, "pci", aVF)
			n.must(os.MkdirAll(filepath.Dir(file), 0o700))
			n.must(os.WriteFile(file, []byte("/run/netns/other"), 0o600))
			return func() { n.must(os.Remove(file)) }
		},
		"has the address 10.9.9.9/24": func(n *node) func() { return n.address(aVF, "10.9.9.9/24") },
		"being worked on": func(n *node) func() {
			unlock, err := n.options.Claims.Lock(n.Context(), aVF)
			n.must(err)
			return unlock
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, capable())
			n.start(n.want(4, "", 0))
			n.is(provision.Done)
			release := take(n)
			n.agent.Configure([]resource.PF{n.want(6, "", 0)})
			if why := n.agent.Withhold(n.pf()); why == "" {
				t.Error("VFs that are to go are offered")
			}
			says := strings.TrimPrefix(name, "a claim")
			if says == "" {
				says = "pod shop/cart"
			}
			n.is(provision.Waiting, says)
			if why := provision.Withheld(n.onDisk(), n.pf(), aVF); !strings.Contains(why, says) {
				t.Errorf("another process reads: %q", why)
			}
			if got := n.card.Written(); !reflect.DeepEqual(got, []int{4}) {
				t.Errorf("written %v while a pod has a VF", got)
			}
			release()
			n.is(provision.Done)
			if got := n.card.Written(); !reflect.DeepEqual(got, []int{4, 0, 6}) || len(n.pf().VFs) != 6 {
				t.Errorf("written %v, VFs %v", got, n.pf().VFs)
			}
		})
	}
}

// A VF that a pod has keeps its driver; the others change, and are offered.
func TestOneVFWaits(t *testing.T) {
	n := newNode(t, capable())
	n.card.Load("vfio-pci")
	n.start(n.want(3, "", 0))
	n.is(provision.Done)
	release := n.claim(aVF, "boot 1")
	n.agent.Configure([]resource.PF{n.want(3, "vfio-pci", 0)})
	for i := range 3 {
		n.eventually(fmt.Sprintf("VF %d changed, or waits", i), func() bool {
			d, _, _ := n.vf(i)
			busy := d.PCI == aVF
			return (d.Driver == "vfio-pci") != busy && (n.agent.WithholdVF(n.pf(), d.PCI) != "") == busy
		})
	}
	n.is(provision.Waiting, aVF, "shop/cart")
	status := n.onDisk()
	for i, pci := range n.pf().VFs {
		if why := provision.Withheld(status, n.pf(), pci); (i == 0) != strings.Contains(why, "shop/cart") {
			t.Errorf("another process reads of %s: %q", pci, why)
		}
	}
	if why := n.agent.Withhold(n.pf()); !strings.Contains(why, aVF) {
		t.Errorf("as a whole it is withheld for %q", why)
	}
	release()
	n.is(provision.Done)
	if d, _, _ := n.vf(0); d.Driver != "vfio-pci" {
		t.Errorf("%s: driver %s", d, d.Driver)
	}
	n.agent.Configure([]resource.PF{n.want(3, "", 1400)}) // and back
	n.is(provision.Done)
	if d, link, _ := n.vf(0); d.Driver != "capablevf" || link.MTU != 1400 {
		t.Errorf("%s: driver %s, %+v", d, d.Driver, link)
	}
	if got := n.card.Written(); !reflect.DeepEqual(got, []int{3}) {
		t.Errorf("written %v", got)
	}
}

// A driver that hangs holds up nothing but its PF, and is said.
func TestHangingDriver(t *testing.T) {
	n := newNode(t, capable())
	release := n.card.Hang()
	defer release()
	n.options.Timeout = 30 * time.Millisecond
	n.start(n.want(4, "", 0), resource.PF{Name: "ens9", NumVFs: 1})
	n.is(provision.Failed, "writing 4 to sriov_numvfs", "driver capable hangs")
	if s := n.agent.Status()[1]; s.State != provision.Absent || !strings.Contains(s.Reason, "ens9") {
		t.Errorf("the other PF: %+v", s)
	}
	if why := n.agent.WithholdVF(n.pf(), aVF); !strings.Contains(why, "hangs") {
		t.Errorf("withheld for %q", why)
	}
	n.agent.Poke()
	release()
	n.is(provision.Done)
	if got := n.card.Written(); !reflect.DeepEqual(got, []int{4}) {
		t.Errorf("written %v", got)
	}
}

// No VF of a PF is picked while its VFs are made.
func TestLockedMeanwhile(t *testing.T) {
	n := newNode(t, capable())
	unlock, err := n.options.Claims.Lock(t.Context(), n.card.PFPCI())
	n.must(err)
	n.start(n.want(4, "", 0))
	time.Sleep(20 * time.Millisecond) // it could have gone on by now
	if got := n.card.Written(); len(got) != 0 {
		t.Errorf("written %v under another's lock", got)
	}
	unlock()
	n.is(provision.Done)
}

// After a reboot a pod's ADD waits for the VF that it had, and for the PF's
// lock: the VF is set up before it gets it.
func TestImpatientPod(t *testing.T) {
	n := newNode(t, capable())
	n.card.Load("vfio-pci")
	unlock, err := n.options.Claims.Lock(t.Context(), aVF)
	n.must(err)
	defer unlock()
	n.start(n.want(2, "vfio-pci", 0))
	n.is(provision.Done)
	if d, _, _ := n.vf(0); d.Driver != "vfio-pci" {
		t.Errorf("%s: driver %s", d, d.Driver)
	}
}

// A VF that cannot be bound is named, and withholds no other.
func TestOneVFFails(t *testing.T) {
	n := newNode(t, capable())
	n.card.Load("vfio-pci")
	n.options.Writer = refusing{n.card, "0000:01:10.1"}
	n.start(n.want(3, "vfio-pci", 0))
	n.is(provision.Failed, "0000:01:10.1", "IOMMU")
	for i := range 3 {
		d, _, _ := n.vf(i)
		if why := n.agent.WithholdVF(n.pf(), d.PCI); (why != "") != (i == 1) {
			t.Errorf("%s: withheld for %q", d, why)
		}
	}
}

// refusing is a Writer that cannot bind one VF.
type refusing struct {
	provision.Writer
	pci string
}

func (r refusing) Bind(pci, driver string) error {
	if pci == r.pci {
		return fmt.Errorf("bind driver %s to %s: %w", driver, pci, unix.EINVAL)
	}
	return r.Writer.Bind(pci, driver)
}

// What a driver leaves out is named.
func TestMissing(t *testing.T) {
	n := newNode(t, capable())
	n.card.Short = true
	n.options.Timeout = 30 * time.Millisecond
	n.start(n.want(3, "", 0))
	n.is(provision.Failed, "no physfn", "0000:01:10.2")
	if why := n.agent.Withhold(n.pf()); why == "" {
		t.Error("offered")
	}
	n.card.Mend()
	n.is(provision.Done)

	slow := newNode(t, sriovtest.Slowly(time.Hour))
	slow.card.Late = true
	slow.options.Timeout = 20 * time.Millisecond
	slow.start(slow.want(1, "", 0))
	slow.is(provision.Failed, "the network device of VF 0", "capablevf")
	slow.card.Probed()
	slow.is(provision.Done)
}

// After a reboot the VFs are made again, also those that kubelet promised to
// pods of before; what they were before is what they are now.
func TestReboot(t *testing.T) {
	n := newNode(t, capable())
	n.card.Load("vfio-pci")
	stop := n.start(n.want(4, "vfio-pci", 8000))
	n.is(provision.Done)
	stop()
	n.card.Reboot()
	n.boots("boot 2")
	n.claim(aVF, "boot 1")
	n.kubelet(map[string]string{aVF: "shop/cart"})
	stop = n.start(n.want(4, "vfio-pci", 8000))
	n.is(provision.Done)
	if d, _, _ := n.vf(0); d.Driver != "vfio-pci" || n.uplink().MTU != 8000 {
		t.Errorf("%s: driver %s, PF %+v", d, d.Driver, n.uplink())
	}
	stop()

	n.card.Reboot()
	n.boots("boot 3")
	n.start() // it has left the configuration
	n.eventually("forgotten", n.noRecord)
	if got := n.card.Written(); len(got) != 0 || n.uplink().Up {
		t.Errorf("touched: %v, %+v", got, n.uplink())
	}
}

// A PF that leaves the configuration goes back, when no pod has its VFs.
func TestUndo(t *testing.T) {
	n := newNode(t, capable())
	n.must(n.card.SetAutoprobe("", false))
	n.start(n.want(4, "", 8000))
	n.is(provision.Done)
	release := n.claim(aVF, "boot 1")
	n.agent.Configure(nil)
	n.is(provision.Waiting, "shop/cart")
	if s := n.agent.Status()[0]; !s.Undo || n.agent.Withhold(n.pf()) == "" || len(n.pf().VFs) != 4 {
		t.Errorf("%+v, withheld %q, VFs %v", s, n.agent.Withhold(n.pf()), n.pf().VFs)
	}
	release()
	n.eventually("undone", n.noRecord)
	if up := n.uplink(); up.Up || up.MTU != 1500 || len(n.pf().VFs) != 0 || n.card.Sys().Autoprobe(n.card.PFPCI()) {
		t.Errorf("PF is %+v, VFs %v, autoprobe %t", up, n.pf().VFs, n.card.Sys().Autoprobe(n.card.PFPCI()))
	}
	n.eventually("nothing to say", func() bool { return len(n.agent.Status()) == 0 })
	if why := n.agent.Withhold(n.pf()); why != "" {
		t.Errorf("withheld: %s", why)
	}
}

// Undo, of an agent that is not running, says what it could not do.
func TestUndoAtOnce(t *testing.T) {
	n := newNode(t, capable())
	stop := n.start(n.want(4, "", 0))
	n.is(provision.Done)
	stop()
	release := n.claim(aVF, "boot 1")
	p, err := provision.New(n.options)
	n.must(err)
	if err = p.Undo(t.Context()); err == nil || !strings.Contains(err.Error(), "shop/cart") {
		t.Errorf("with a pod: %v", err)
	}
	release()
	other := filepath.Join(filepath.Dir(n.recordPath()), "0000:09:00.0.json")
	n.must(os.WriteFile(other, []byte("{"), 0o600))
	hang := n.card.Hang()
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	p, err = provision.New(n.options) // as each call of the tool does
	n.must(err)
	if err = p.Undo(short); err == nil || !strings.Contains(err.Error(), n.card.PFPCI()) || !strings.Contains(err.Error(), other) {
		t.Errorf("a driver that hangs, and a record that cannot be read: %v", err)
	}
	hang()
	n.eventually("the lock is free", func() bool {
		unlock, lockErr := n.options.Claims.TryLock(t.Context(), n.card.PFPCI())
		if lockErr == nil {
			unlock()
		}
		return lockErr == nil
	})
	n.must(os.Remove(other))
	p, err = provision.New(n.options)
	n.must(err)
	if err = p.Undo(t.Context()); err != nil || !n.noRecord() || len(n.pf().VFs) != 0 {
		t.Errorf("%v, VFs %v", err, n.pf().VFs)
	}
	if status, readErr := provision.ReadStatus(n.options.StateDir); readErr != nil || len(status) != 0 {
		t.Errorf("what is left of it: %+v, %v", status, readErr)
	}
	n.card.Foreign(2)
	if err = p.Undo(t.Context()); err != nil || len(n.pf().VFs) != 2 {
		t.Errorf("a PF that is not ours: %v, VFs %v", err, n.pf().VFs)
	}
}

// What the node uses the PF for since then stays possible.
func TestUndoLeavesWhatTheNodeUses(t *testing.T) {
	n := newNode(t, capable())
	n.start(n.want(1, "", 8000))
	n.is(provision.Done)
	n.address(n.card.PFPCI(), "10.1.1.1/24")
	n.agent.Configure(nil)
	n.eventually("undone", n.noRecord)
	if up := n.uplink(); !up.Up || len(n.pf().VFs) != 0 {
		t.Errorf("PF is %+v", up)
	}
}

// A PF is found when it appears; a name that is gone for a while undoes nothing.
func TestNames(t *testing.T) {
	n := newNode(t, capable())
	host, err := n.card.Open("")
	n.must(err)
	n.must(host.Rename(n.uplink().Index, "late0"))
	want := resource.PF{Name: "ens1f0", NumVFs: 2}
	n.start(want)
	n.is(provision.Absent, "ens1f0")
	n.must(host.Rename(n.uplink().Index, "ens1f0"))
	n.is(provision.Done)

	n.must(host.Rename(n.uplink().Index, "eth7"))
	n.agent.Poke()
	n.is(provision.Absent)
	if len(n.pf().VFs) != 2 || n.noRecord() {
		t.Errorf("VFs %v", n.pf().VFs)
	}
	n.agent.Configure([]resource.PF{{PCI: n.card.PFPCI(), NumVFs: 2}, {Name: "eth7", NumVFs: 3}})
	n.agent.Configure([]resource.PF{{PCI: n.card.PFPCI(), NumVFs: 2}, {PCI: n.card.PFPCI(), NumVFs: 2}})
	n.is(provision.Done)
	if s := n.agent.Status()[1]; s.State != provision.Failed || !strings.Contains(s.Reason, "twice") {
		t.Errorf("named twice: %+v", s)
	}
}

// NetworkManager is told where the node has one, before there are VFs.
func TestNetworkManager(t *testing.T) {
	n := newNode(t, capable())
	udev := filepath.Join(n.options.StateDir, "udev")
	n.options.UdevDir, n.options.NMDir = filepath.Join(udev, "rules.d"), filepath.Join(udev, "NetworkManager")
	n.must(os.Mkdir(udev, 0o755))
	stop := n.start(n.want(1, "", 0))
	n.is(provision.Done)
	if _, err := os.Lstat(n.options.UdevDir); err == nil {
		t.Error("told a node that has none")
	}
	n.agent.Configure(nil)
	n.eventually("undone", n.noRecord)
	stop()

	n.must(os.Mkdir(n.options.NMDir, 0o755))
	rule := filepath.Join(n.options.UdevDir, "90-multiplexer-"+n.card.PFPCI()+".rules")
	n.options.Writer = ruled{n.card, func() {
		if _, err := os.Lstat(rule); err != nil {
			t.Errorf("VFs come before the rule: %v", err)
		}
	}}
	began := time.Now()
	n.start(n.want(1, "", 0))
	n.is(provision.Done)
	if took := time.Since(began); took < 3*time.Second {
		t.Errorf("udev had %s to see its rule", took)
	}
	text, err := os.ReadFile(rule)
	n.must(err)
	if !strings.Contains(string(text), n.card.PFPCI()) || !strings.Contains(string(text), `ENV{NM_UNMANAGED}="1"`) {
		t.Errorf("the rule is %s", text)
	}
	n.agent.Configure(nil)
	n.eventually("undone", n.noRecord)
	if _, err = os.Lstat(rule); err == nil {
		t.Error("the rule stays")
	}
}

// ruled is a Writer that is looked at before it changes the number of VFs.
type ruled struct {
	provision.Writer
	before func()
}

func (r ruled) SetVFs(pf string, n int) error {
	r.before()
	return r.Writer.SetVFs(pf, n)
}

// A record that cannot be read stops the PF, and is named.
func TestDamagedRecord(t *testing.T) {
	n := newNode(t, capable())
	n.must(os.MkdirAll(filepath.Dir(n.recordPath()), 0o700))
	n.must(os.WriteFile(n.recordPath(), []byte(`{"pci": "../../x"}`), 0o600))
	n.start(n.want(1, "", 0))
	n.is(provision.Failed, n.recordPath())
	n.must(os.Remove(n.recordPath()))
	n.is(provision.Done)
}

var _ provision.Writer = sriov.Linux{}
