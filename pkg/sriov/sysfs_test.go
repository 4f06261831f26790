package sriov

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// machine is a sysfs with relative links like the kernel's: a device is below
// devices/, and what is below bus/ and class/ only leads there.
type machine struct{ *stock }

func newMachine(t *testing.T) machine {
	t.Helper()
	m := machine{newStock(t)}
	m.mkdir("sys/class/net")
	return m
}

func (m machine) sys() Sysfs { return Sysfs(filepath.Join(m.dir, "sys")) }

const bridge = "sys/devices/pci0000:00/0000:00:01.0/"

// controller adds a PCI function with these files, of which the class is a
// NIC's unless it is among them, and these network devices.
func (m machine) controller(pci, driver string, files map[string]string, netdevs ...string) {
	m.link("sys/bus/pci/devices/"+pci, "../../../devices/pci0000:00/0000:00:01.0/"+pci)
	m.file(bridge+pci+"/class", "0x020000\n")
	for name, text := range files {
		m.file(bridge+pci+"/"+name, text+"\n")
	}
	if driver != "" {
		m.mkdir("sys/bus/pci/drivers/" + driver)
		m.link(bridge+pci+"/driver", "../../../../bus/pci/drivers/"+driver)
	}
	for _, name := range netdevs {
		m.mkdir(bridge + pci + "/net/" + name)
		m.link(bridge+pci+"/net/"+name+"/device", "../../../"+pci)
		m.link("sys/class/net/"+name, "../../devices/pci0000:00/0000:00:01.0/"+pci+"/net/"+name)
	}
}

// virtual links VF and PF as the kernel does.
func (m machine) virtual(pf string, index int, vf string) {
	m.link(fmt.Sprintf("%s%s/virtfn%d", bridge, pf, index), "../"+vf)
	m.link(bridge+vf+"/physfn", "../"+pf)
}

// port names the port of a network device.
func (m machine) port(pci, netdev, name string) {
	m.file(bridge+pci+"/net/"+netdev+"/phys_port_name", name+"\n")
}

// refused fails the test unless an error is Invalid and says all of these.
func refused(t *testing.T, err error, says ...string) {
	t.Helper()
	if !errors.Is(err, network.Invalid) {
		t.Errorf("got %v, want an error of kind %q", err, network.Invalid)
		return
	}
	for _, say := range says {
		if !strings.Contains(err.Error(), say) {
			t.Errorf("got %v, want %q in it", err, say)
		}
	}
}

var capable = map[string]string{"sriov_totalvfs": "63", "numa_node": "1"}

func TestPFs(t *testing.T) {
	m := newMachine(t)
	m.controller("0000:02:00.0", "i40e", capable, "ens2")
	m.controller("0000:01:00.1", "igb", map[string]string{"sriov_totalvfs": "7", "numa_node": "-1"}, "ens1f1")
	m.controller("0000:01:00.0", "igb", map[string]string{"sriov_totalvfs": "7"}, "ens1f0")
	m.controller("0000:03:00.0", "", capable)
	// The two ports of one card: their VFs take turns on the bus.
	for n, vf := range []string{"0000:01:10.0", "0000:01:10.1", "0000:01:10.4", "0000:01:10.5"} {
		m.controller(vf, "igbvf", nil)
		m.virtual([]string{"0000:01:00.0", "0000:01:00.1"}[n%2], n/2, vf)
	}
	// What is no PF: another sort of device, a NIC that has no VFs to give or does not know of any.
	m.controller("0000:04:00.0", "nvme", map[string]string{"sriov_totalvfs": "32", "class": "0x010802"})
	m.controller("0000:05:00.0", "e1000e", map[string]string{"sriov_totalvfs": "0"}, "ens5")
	m.controller("0000:06:00.0", "e1000e", nil, "ens6")
	m.controller("0000:07:00.0", "odd", map[string]string{"sriov_totalvfs": "many"}, "ens7")
	// InfiniBand of a card for both is a network controller too.
	m.controller("0000:08:00.0", "mlx5_core", map[string]string{"sriov_totalvfs": "16", "class": "0x020700", "numa_node": "0"}, "ib0")
	got, err := m.sys().PFs()
	if err != nil {
		t.Fatal(err)
	}
	want := []PF{
		{PCI: "0000:01:00.0", Name: "ens1f0", Driver: "igb", NUMA: -1, Total: 7, VFs: []string{"0000:01:10.0", "0000:01:10.4"}},
		{PCI: "0000:01:00.1", Name: "ens1f1", Driver: "igb", NUMA: -1, Total: 7, VFs: []string{"0000:01:10.1", "0000:01:10.5"}},
		{PCI: "0000:02:00.0", Name: "ens2", Driver: "i40e", NUMA: 1, Total: 63},
		{PCI: "0000:03:00.0", NUMA: 1, Total: 63},
		{PCI: "0000:08:00.0", Name: "ib0", Driver: "mlx5_core", NUMA: 0, Total: 16},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err = Sysfs(filepath.Join(m.dir, "nowhere")).PFs(); !errors.Is(err, network.IO) {
		t.Errorf("without sysfs: %v", err)
	}
}

// A VF's index is its link's number, not its place in a directory or on the bus.
func TestVFsByIndex(t *testing.T) {
	m := newMachine(t)
	const pf = "0000:01:00.0"
	m.controller(pf, "igb", capable, "ens1")
	var want []string
	for n := range 12 {
		vf := fmt.Sprintf("0000:%02x:10.%d", 40-n, n%8) // the later, the lower
		m.controller(vf, "igbvf", nil, fmt.Sprintf("vf%d", n))
		m.virtual(pf, n, vf)
		want = append(want, vf)
	}
	found, err := m.sys().PF(pf)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, found.VFs); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for n, vf := range want {
		d, vfErr := m.sys().VF(vf)
		if vfErr != nil {
			t.Fatal(vfErr)
		}
		if d.Index != n || d.Netdev != fmt.Sprintf("vf%d", n) || d.PF.Name != "ens1" {
			t.Errorf("%s: %+v", vf, d)
		}
	}
}

func TestVF(t *testing.T) {
	m := newMachine(t)
	m.controller("0000:01:00.0", "igb", capable, "ens1")
	for n, vf := range []struct {
		driver  string
		numa    string
		netdevs []string
	}{{"igbvf", "1", []string{"ens1v0"}}, {"igbvf", "-1", nil}, {"", "", nil}, {"vfio-pci", "0", nil}, {"uio_pci_generic", "0", nil}, {"igb_uio", "0", nil}} {
		files := map[string]string{"numa_node": vf.numa}
		if vf.numa == "" {
			files = nil
		}
		m.controller(fmt.Sprintf("0000:01:10.%d", n), vf.driver, files, vf.netdevs...)
		m.virtual("0000:01:00.0", n, fmt.Sprintf("0000:01:10.%d", n))
	}
	m.mkdir(bridge + "0000:01:10.1/net") // it is in a pod: the directory is there, and empty
	pf, err := m.sys().PF("0000:01:00.0")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		pci       string
		want      Device
		userspace bool
	}{
		"on the node":             {"0000:01:10.0", Device{PCI: "0000:01:10.0", PF: *pf, Index: 0, Driver: "igbvf", NUMA: 1, Netdev: "ens1v0"}, false},
		"in a pod, no NUMA":       {"0000:01:10.1", Device{PCI: "0000:01:10.1", PF: *pf, Index: 1, Driver: "igbvf", NUMA: -1}, false},
		"without driver and NUMA": {"0000:01:10.2", Device{PCI: "0000:01:10.2", PF: *pf, Index: 2, NUMA: -1}, false},
		"vfio-pci":                {"0000:01:10.3", Device{PCI: "0000:01:10.3", PF: *pf, Index: 3, Driver: "vfio-pci"}, true},
		"uio_pci_generic":         {"0000:01:10.4", Device{PCI: "0000:01:10.4", PF: *pf, Index: 4, Driver: "uio_pci_generic"}, true},
		"igb_uio":                 {"0000:01:10.5", Device{PCI: "0000:01:10.5", PF: *pf, Index: 5, Driver: "igb_uio"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			d, vfErr := m.sys().VF(c.pci)
			if vfErr != nil {
				t.Fatal(vfErr)
			}
			if diff := cmp.Diff(c.want, *d); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if d.userspace() != c.userspace {
				t.Errorf("driven by a process: %v", d.userspace())
			}
			if want := fmt.Sprintf("VF %d of PF ens1 (%s)", c.want.Index, c.pci); d.String() != want {
				t.Errorf("%q, want %q", d, want)
			}
			if home, homeErr := m.sys().home(d); homeErr != nil || home != c.want.Netdev {
				t.Errorf("home as %q, %v", home, homeErr)
			}
		})
	}
}

func TestNoVF(t *testing.T) {
	m := newMachine(t)
	m.controller("0000:01:00.0", "igb", capable, "ens1")
	m.controller("0000:01:10.0", "igbvf", nil, "vf0")
	m.controller("0000:01:10.1", "igbvf", nil, "vf1")
	m.link(bridge+"0000:01:10.1/physfn", "../0000:01:00.0")
	m.controller("0000:01:10.2", "igbvf", nil, "vf2")
	m.link(bridge+"0000:01:10.2/physfn", "../0000:09:00.0")
	for name, c := range map[string]struct {
		pci  string
		says []string
	}{
		"no such device":             {"0000:ff:10.0", []string{`deviceID "0000:ff:10.0"`, "no such PCI device", "multiplexerd vfs"}},
		"a PF":                       {"0000:01:00.0", []string{`deviceID "0000:01:00.0"`, "is no VF", "physfn"}},
		"no physfn":                  {"0000:01:10.0", []string{`deviceID "0000:01:10.0"`, "is no VF", "physfn"}},
		"a PF that does not know it": {"0000:01:10.1", []string{`deviceID "0000:01:10.1"`, "0000:01:00.0", "virtfn"}},
		"a PF that is gone":          {"0000:01:10.2", []string{"0000:09:00.0", "sriov_totalvfs"}},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := m.sys().VF(c.pci)
			refused(t, err, c.says...)
			if d != nil {
				t.Errorf("got %+v", d)
			}
		})
	}
}

// In switchdev mode the VFs' representors are beside the PF's own device.
func TestUplink(t *testing.T) {
	for name, c := range map[string]struct {
		ports map[string]string // by network device, "-" = the file cannot be read
		want  string
	}{
		"no network device":                  {nil, ""},
		"a driver without names":             {map[string]string{"ens1": ""}, "ens1"},
		"a driver that refuses":              {map[string]string{"ens1": "-"}, "ens1"},
		"a port":                             {map[string]string{"ens1": "p0"}, "ens1"},
		"the second port":                    {map[string]string{"ens1f1": "p1"}, "ens1f1"},
		"before the representors":            {map[string]string{"ens1": "p0", "ens1_0": "pf0vf0", "ens1_1": "pf0vf1"}, "ens1"},
		"behind the representors":            {map[string]string{"eth0": "pf0vf0", "eth1": "pf0vf10", "zeth": "p0"}, "zeth"},
		"among representors of a controller": {map[string]string{"a": "c1pf0vf3", "b": "c12pf1vf0", "c": "p0", "d": "c1pf0vf4"}, "c"},
		"beside the host's PF":               {map[string]string{"a": "pf0", "b": "c1pf0", "c": "p0"}, "c"},
		"among subfunctions":                 {map[string]string{"a": "pf0sf88", "b": "c1pf0sf1", "c": "p0"}, "c"},
		"that has no name":                   {map[string]string{"a": "pf0vf0", "b": "", "c": "pf0vf1"}, "b"},
		"that refuses":                       {map[string]string{"a": "pf0vf0", "b": "-"}, "b"},
		"in a pod, the representors are not": {map[string]string{"a": "pf0vf0", "b": "pf0vf1"}, ""},
		"named almost like a representor":    {map[string]string{"a": "pf0vf0x", "b": "p0"}, "a"},
	} {
		t.Run(name, func(t *testing.T) {
			const pci = "0000:01:00.0"
			m := newMachine(t)
			m.controller(pci, "mlx5_core", capable)
			for netdev, port := range c.ports {
				m.mkdir(bridge + pci + "/net/" + netdev)
				switch port {
				case "-":
					m.mkdir(bridge + pci + "/net/" + netdev + "/phys_port_name")
				case "":
				default:
					m.port(pci, netdev, port)
				}
			}
			pf, err := m.sys().PF(pci)
			if err != nil {
				t.Fatal(err)
			}
			if pf.Name != c.want {
				t.Errorf("PF %q, want %q", pf.Name, c.want)
			}
			if home, homeErr := m.sys().home(m.sys().whole(pf)); homeErr != nil || home != c.want {
				t.Errorf("home as %q, %v", home, homeErr)
			}
		})
	}
}

func TestPFByName(t *testing.T) {
	m := newMachine(t)
	m.controller("0000:01:00.0", "igb", capable, "ens1")
	m.controller("0000:01:10.0", "igbvf", nil, "vf0")
	m.virtual("0000:01:00.0", 0, "0000:01:10.0")
	m.controller("0000:02:00.0", "e1000e", nil, "ens2")
	// One PCI function with two ports, as of ConnectX-3.
	m.controller("0000:03:00.0", "mlx4_core", capable, "ens3", "ens3d1")
	m.mkdir("sys/devices/virtual/net/lo")
	m.link("sys/class/net/lo", "../../devices/virtual/net/lo")
	// Not itself on the PCI bus: a virtio device is below a PCI function.
	m.mkdir(bridge + "0000:00:04.0/virtio0/net/eth0")
	m.link(bridge+"0000:00:04.0/virtio0/net/eth0/device", "../../../virtio0")
	m.link("sys/class/net/eth0", "../../devices/pci0000:00/0000:00:01.0/0000:00:04.0/virtio0/net/eth0")
	for name, c := range map[string]struct{ master, pci string }{
		"a PF":            {"ens1", "0000:01:00.0"},
		"the first port":  {"ens3", "0000:03:00.0"},
		"the second port": {"ens3d1", "0000:03:00.0"},
	} {
		t.Run(name, func(t *testing.T) {
			pf, err := m.sys().PFByName(c.master)
			if err != nil {
				t.Fatal(err)
			}
			if pf.Name != c.master || pf.PCI != c.pci || pf.Total != 63 {
				t.Errorf("got %+v", pf)
			}
			d := m.sys().whole(pf)
			if d.Index != -1 || d.Netdev != c.master || d.PCI != c.pci || d.NUMA != 1 || d.String() != "PF "+c.master+" ("+c.pci+")" {
				t.Errorf("as a device: %s, %+v", d, d)
			}
		})
	}
	if pf, err := m.sys().PFByName("ens1"); err != nil || len(pf.VFs) != 1 {
		t.Errorf("its VFs: %+v, %v", pf, err)
	}
	for name, c := range map[string]struct {
		master string
		says   []string
	}{
		"no such device":         {"ens9", []string{`master "ens9"`, "no network device", "name a PF"}},
		"a virtual device":       {"lo", []string{`master "lo"`, "no PCI device"}},
		"a virtio device":        {"eth0", []string{`master "eth0"`, "no PCI device"}},
		"a NIC without VFs":      {"ens2", []string{`master "ens2"`, "0000:02:00.0", "cannot have VFs"}},
		"a VF":                   {"vf0", []string{`master "vf0"`, "0000:01:10.0", "cannot have VFs"}},
		"a PCI address for name": {"0000:01:00.0", []string{`master "0000:01:00.0"`, "no network device"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := m.sys().PFByName(c.master)
			refused(t, err, c.says...)
		})
	}
}

// A network device that is renamed or moved shows at once.
func TestSysfsKeepsNothing(t *testing.T) {
	m := newMachine(t)
	m.controller("0000:01:00.0", "igb", capable, "ens1")
	m.controller("0000:01:10.0", "igbvf", nil, "vf0")
	m.virtual("0000:01:00.0", 0, "0000:01:10.0")
	d, err := m.sys().VF("0000:01:10.0")
	if err != nil {
		t.Fatal(err)
	}
	net := filepath.Join(m.dir, bridge, "0000:01:10.0/net")
	m.must(os.Rename(filepath.Join(net, "vf0"), filepath.Join(net, "ens1v0")))
	if home, homeErr := m.sys().home(d); homeErr != nil || home != "ens1v0" {
		t.Errorf("renamed: %q, %v", home, homeErr)
	}
	m.must(os.RemoveAll(net))
	if home, homeErr := m.sys().home(d); homeErr != nil || home != "" {
		t.Errorf("without a driver: %q, %v", home, homeErr)
	}
	m.file(strings.TrimPrefix(net, m.dir+"/"), "no directory")
	if _, err = m.sys().home(d); !errors.Is(err, network.IO) {
		t.Errorf("unreadable: %v", err)
	}
}

func TestNormalPCI(t *testing.T) {
	for address, want := range map[string]string{
		"0000:01:10.0": "0000:01:10.0", "0000:AF:1F.7": "0000:af:1f.7", "FFFFFFFF:ff:00.0": "ffffffff:ff:00.0",
		"": "", "0000:01:10": "", "0000:01:10.": "", "0000-01-10.0": "", "0000:1:10.0": "", "0000:01:2f.0": "", "x0000:01:10.0": "", "0000:01:10.0x": "", "0000:0g:10.0": "",
	} {
		got, err := NormalPCI("its key", address)
		if want != "" && (err != nil || got != want) {
			t.Errorf("%q: %q, %v", address, got, err)
		}
		if want == "" {
			refused(t, err, "its key "+fmt.Sprintf("%q", address), "domain:bus:device.function")
		}
	}
}
