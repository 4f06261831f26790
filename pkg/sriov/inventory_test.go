package sriov

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/podns"
)

// stock is a node for the inventory: a sysfs, claims, and what PFs hold.
type stock struct {
	t    *testing.T
	dir  string
	held map[string][]VF // by PF's name
	// counters and plain are the errors of the two reads, whole of Open.
	counters, plain, whole error
	atMost                 int // VFs that one answer with counters has; 0 = all
	reads                  []string
}

const stockBoot = "this boot"

func newStock(t *testing.T) *stock {
	t.Helper()
	s := &stock{t: t, dir: t.TempDir(), held: map[string][]VF{}}
	s.mkdir("sys/bus/pci/devices")
	s.mkdir("state/vf")
	return s
}

func (s *stock) mkdir(path string) {
	s.t.Helper()
	if err := os.MkdirAll(filepath.Join(s.dir, path), 0o700); err != nil {
		s.t.Fatal(err)
	}
}

func (s *stock) file(path, text string) {
	s.t.Helper()
	s.mkdir(filepath.Dir(path))
	if err := os.WriteFile(filepath.Join(s.dir, path), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *stock) link(path, target string) {
	s.t.Helper()
	s.mkdir(filepath.Dir(path))
	if err := os.Symlink(target, filepath.Join(s.dir, path)); err != nil {
		s.t.Fatal(err)
	}
}

// function adds a PCI function.
func (s *stock) function(pci, driver, netdev, mac string) string {
	dir := "sys/bus/pci/devices/" + pci
	s.mkdir(dir)
	s.file(dir+"/class", "0x020000\n")
	s.file(dir+"/numa_node", "1\n")
	if driver != "" {
		s.link(dir+"/driver", "../../../bus/pci/drivers/"+driver)
	}
	if netdev != "" {
		s.file(dir+"/net/"+netdev+"/address", mac+"\n")
	}
	return dir
}

// pf adds a PF with VFs 0000:01:10.0 and so on; drivers are theirs.
func (s *stock) pf(pci, netdev, bus string, drivers ...string) {
	dir := s.function(pci, "igb", netdev, "02:00:00:00:00:ff")
	s.file(dir+"/sriov_totalvfs", "8\n")
	for n, driver := range drivers {
		vf, name := fmt.Sprintf("%s.%d", bus, n), ""
		if driver == "igbvf" {
			name = "vf" + strconv.Itoa(n)
		}
		s.function(vf, driver, name, fmt.Sprintf("02:00:00:00:00:%02x", n))
		s.link("sys/bus/pci/devices/"+vf+"/physfn", "../"+pci)
		s.link(dir+"/virtfn"+strconv.Itoa(n), "../"+vf)
		s.held[netdev] = append(s.held[netdev], VF{
			Index: n, Admin: Admin{MAC: zeroMAC, Proto: proto8021Q, LinkState: linkAuto}, Counters: Counters{RxBytes: uint64(100 + n)},
		})
	}
}

func (s *stock) claim(r *Record) {
	s.t.Helper()
	if r.Boot == "" {
		r.Boot = stockBoot
	}
	if err := NewClaims(filepath.Join(s.dir, "state"), "").put(r); err != nil {
		s.t.Fatal(err)
	}
}

// inventory says that namespaces below /live live.
func (s *stock) inventory() Inventory {
	return Inventory{
		Sys: Sysfs(filepath.Join(s.dir, "sys")), Kernel: s, Boot: stockBoot,
		Claims: NewClaims(filepath.Join(s.dir, "state"), filepath.Join(s.dir, "foreign")),
		Lives:  func(r podns.Ref) bool { return r.Boot == stockBoot && strings.HasPrefix(r.Path, "/live/") },
	}
}

func (s *stock) Open(path string) (Netns, error) {
	if path != "" {
		s.t.Errorf("the inventory opens %s", path)
	}
	return &stockNetns{stock: s}, s.whole
}

func (s *stock) Rebind(string, string) error { return errors.New("the inventory changes nothing") }

// stockNetns panics where the inventory asks for more than it should.
type stockNetns struct {
	Netns
	stock *stock
}

func (n *stockNetns) Close() {}

func (n *stockNetns) LinkByName(name string) (Link, error) {
	for at, known := range []string{"ens1", "ens2"} {
		if name == known {
			return Link{Index: at + 1, Name: name}, nil
		}
	}
	return Link{}, ErrNoLink
}

func (n *stockNetns) Counters(pf int) ([]VF, error) {
	n.stock.reads = append(n.stock.reads, fmt.Sprint("counters ", pf))
	vfs := n.stock.held["ens"+strconv.Itoa(pf)]
	if most := n.stock.atMost; most > 0 && len(vfs) > most {
		vfs = vfs[:most]
	}
	return vfs, n.stock.counters
}

func (n *stockNetns) VFs(pf int) ([]VF, error) {
	n.stock.reads = append(n.stock.reads, fmt.Sprint("plain ", pf))
	var vfs []VF
	for _, vf := range n.stock.held["ens"+strconv.Itoa(pf)] {
		vfs = append(vfs, VF{Index: vf.Index, Admin: vf.Admin})
	}
	return vfs, n.stock.plain
}

// inventoryTable is what `multiplexerd vfs` prints.
func inventoryTable(t *testing.T, rows []VFRow) string {
	t.Helper()
	var out bytes.Buffer
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	lines := [][]string{TableHeader()}
	for i := range rows {
		lines = append(lines, rows[i].TableRow())
	}
	for _, line := range lines {
		if len(line) != len(TableHeader()) {
			t.Errorf("%d columns: %v", len(line), line)
		}
		_, _ = fmt.Fprintln(w, strings.Join(line, "\t"))
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func (s *stock) table() (string, error) {
	s.t.Helper()
	rows, err := s.inventory().Rows()
	return inventoryTable(s.t, rows), err
}

// Every state, and what the table shows of it.
func TestInventoryTable(t *testing.T) {
	s := newStock(t)
	s.pf("0000:01:00.0", "ens1", "0000:01:10", "igbvf", "igbvf", "vfio-pci", "igbvf", "", "", "igbvf", "vfio-pci")
	s.function("0000:00:03.0", "virtio-pci", "ens9", "") // is no PF
	s.held["ens1"][1].VLAN, s.held["ens1"][1].MAC = 42, "02:00:00:00:10:01"
	s.held["ens1"][1].Counters = Counters{RxBytes: 9000, TxBytes: 800, RxPackets: 7, RxDropped: 1, TxDropped: 2}
	at := func(index int, pod, network, netns string) *Record {
		return &Record{
			Container: "c" + strconv.Itoa(index), IfName: "net1", Pod: pod, Network: network, PCI: fmt.Sprintf("0000:01:10.%d", index),
			PF: "0000:01:00.0", Index: index, Ref: podns.Ref{Path: netns}, Original: Original{MAC: "02:00:00:00:20:0" + strconv.Itoa(index)},
		}
	}
	s.claim(at(1, "shop/web", "blue", "/live/1"))
	s.claim(at(2, "shop/dpdk", "red", "/live/2"))
	s.claim(at(3, "shop/gone", "red", "/run/netns/gone"))
	failed := at(4, "shop/bad", "red", "/live/4")
	failed.Failed = "driver igbvf does not\nbind"
	s.claim(failed)
	other := at(5, "", "red", "/live/5")
	other.Boot = "another boot"
	s.claim(other)
	s.file("foreign/pci/0000:01:10.6", "/live/6\n")
	s.file("foreign/pci/0000:01:10.0", "/run/netns/gone\n")
	s.file("state/pools.json", `{"pools":{"x.com/vf":["0000:01:10.1"]}}`)
	got, err := s.table()
	if err != nil {
		t.Error(err)
	}
	want := `PF    VF  PCI           DRIVER    LINK  NUMA  STATE        NAMESPACE  POD   NETWORK  MAC                VLAN  RX-BYTES  TX-BYTES  DROPPED  RESOURCE  REASON
ens1  0   0000:01:10.0  igbvf     vf0   1     free         -          -     -        02:00:00:00:00:00  -     100       0         0        -         -
ens1  1   0000:01:10.1  igbvf     vf1   1     in pod       shop       web   blue     02:00:00:00:10:01  42    9000      800       3        x.com/vf  -
ens1  2   0000:01:10.2  vfio-pci  -     1     in pod       shop       dpdk  red      02:00:00:00:20:02  -     102       0         0        -         -
ens1  3   0000:01:10.3  igbvf     vf3   1     leaked       shop       gone  red      02:00:00:00:00:03  -     103       0         0        -         -
ens1  4   0000:01:10.4  -         -     1     quarantined  shop       bad   red      02:00:00:00:20:04  -     104       0         0        -         driver igbvf does not bind
ens1  5   0000:01:10.5  -         -     1     leaked       -          -     red      02:00:00:00:20:05  -     105       0         0        -         -
ens1  6   0000:01:10.6  igbvf     vf6   1     in pod       -          -     -        02:00:00:00:00:06  -     106       0         0        -         given by sriov-cni (network namespace /live/6)
ens1  7   0000:01:10.7  vfio-pci  -     1     free         -          -     -        -                  -     107       0         0        -         -
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"counters 1"}, s.reads); diff != "" {
		t.Errorf("one read for all VFs of a PF:\n%s", diff)
	}
}

// What kubelet gave away is allocated until a pod has it.
func TestInventoryAllocated(t *testing.T) {
	s := newStock(t)
	s.pf("0000:01:00.0", "ens1", "0000:01:10", "igbvf", "igbvf", "igbvf", "igbvf")
	s.claim(&Record{PCI: "0000:01:10.1", Pod: "shop/new", Ref: podns.Ref{Path: "/live/1"}})
	s.file("foreign/pci/0000:01:10.2", "/live/2\n")
	i := s.inventory()
	i.Allocated = map[string]string{"0000:01:10.0": "shop/a", "0000:01:10.1": "shop/b", "0000:01:10.2": "shop/c"}
	rows, err := i.Rows()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for n := range rows {
		got = append(got, fmt.Sprintf("%s %s/%s", rows[n].State, rows[n].Namespace, rows[n].Pod))
	}
	want := []string{"allocated shop/a", "in pod shop/new", "in pod shop/c", "free /"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A PF that a pod has is a row, under the name that it had; so is a VF that
// somebody took off its PF.
func TestInventoryOfWholePFs(t *testing.T) {
	s := newStock(t)
	s.pf("0000:01:00.0", "", "0000:01:10", "vfio-pci")
	s.pf("0000:02:00.0", "ens2", "0000:02:10")
	s.claim(&Record{
		PCI: "0000:01:00.0", PF: "0000:01:00.0", Index: -1, Pod: "shop/router", Network: "whole",
		Ref: podns.Ref{Path: "/live/1"}, Original: Original{Netdev: "ens1", MAC: "02:00:00:00:00:ff"},
	})
	s.claim(&Record{PCI: "0000:02:10.3", PF: "0000:02:00.0", Index: 3, Pod: "shop/web", Ref: podns.Ref{Path: "/live/2"}})
	s.claim(&Record{PCI: "0000:09:10.3", PF: "0000:09:00.0", Index: 3, Pod: "shop/old"})
	got, err := s.table()
	if err != nil {
		t.Error(err)
	}
	want := `PF            VF  PCI           DRIVER    LINK  NUMA  STATE   NAMESPACE  POD     NETWORK  MAC                VLAN  RX-BYTES  TX-BYTES  DROPPED  RESOURCE  REASON
ens1          -   0000:01:00.0  igb       -     1     in pod  shop       router  whole    02:00:00:00:00:ff  -     -         -         -        -         -
ens1          0   0000:01:10.0  vfio-pci  -     1     free    -          -       -        -                  -     -         -         -        -         -
ens2          3   0000:02:10.3  -         -     -     in pod  shop       web     -        -                  -     -         -         -        -         the node has no such device now
0000:09:00.0  3   0000:09:10.3  -         -     -     leaked  shop       old     -        -                  -     -         -         -        -         the node has no such device now
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	pfs, _, err := s.inventory().Look()
	if diff := cmp.Diff([]string{"ens1", "ens2"}, pfs); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

// A PF that cannot tell all still has rows.
func TestInventoryWithoutCounters(t *testing.T) {
	for name, c := range map[string]struct {
		spoil            func(*stock)
		want             string
		counted, adminOf int
	}{
		"all":                      {func(*stock) {}, "", 3, 3},
		"too many for one answer":  {func(s *stock) { s.counters = unix.EMSGSIZE }, "", 0, 3},
		"the kernel leaves some":   {func(s *stock) { s.atMost = 2 }, "", 0, 3},
		"the driver says of fewer": {func(s *stock) { s.held["ens1"] = s.held["ens1"][:2] }, "", 2, 2},
		"nothing can be read": {func(s *stock) { s.counters, s.plain = unix.EMSGSIZE, unix.EIO },
			"read the VFs of PF ens1: input/output error", 0, 0},
		"no netlink": {func(s *stock) { s.whole = unix.EPERM }, "counters are not known: operation not permitted", 0, 0},
		"the PF is called otherwise now": {func(s *stock) {
			s.must(os.Rename(s.net()+"/ens1", s.net()+"/renamed"))
		}, "find PF renamed: no such network device", 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStock(t)
			s.pf("0000:01:00.0", "ens1", "0000:01:10", "igbvf", "igbvf", "igbvf")
			c.spoil(s)
			rows, err := s.inventory().Rows()
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("error %v, want %q", err, c.want)
			}
			counted, adminOf := 0, 0
			for i := range rows {
				if rows[i].Counters != nil {
					counted++
				}
				if rows[i].Admin != nil {
					adminOf++
				}
			}
			if len(rows) != 3 || counted != c.counted || adminOf != c.adminOf {
				t.Errorf("%d rows, %d with counters, %d with admin data", len(rows), counted, adminOf)
			}
		})
	}
}

func (s *stock) net() string { return filepath.Join(s.dir, "sys/bus/pci/devices/0000:01:00.0/net") }

func (s *stock) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// A VF whose claim is damaged is not free: no ADD gets it. The others are
// shown as ever.
func TestInventoryWithDamagedClaim(t *testing.T) {
	s := newStock(t)
	s.pf("0000:01:00.0", "ens1", "0000:01:10", "igbvf", "igbvf", "igbvf")
	s.file("state/vf/0000:01:10.0.json", "{")
	s.claim(&Record{PCI: "0000:01:10.1", Ref: podns.Ref{Path: "/live/1"}})
	s.file("state/pools.json", "[")
	rows, err := s.inventory().Rows()
	if err == nil || strings.Count(err.Error(), "is damaged") != 1 || !strings.Contains(err.Error(), "pools.json") {
		t.Errorf("error %v", err)
	}
	if len(rows) != 3 || rows[0].State != Quarantined || !strings.Contains(rows[0].Reason, "cannot be read") || rows[1].State != InPod || rows[2].State != Free {
		t.Errorf("%+v", rows)
	}
}

// Without the claims no VF may look free.
func TestInventoryWithoutClaims(t *testing.T) {
	s := newStock(t)
	s.pf("0000:01:00.0", "ens1", "0000:01:10", "igbvf")
	i := s.inventory()
	s.file("blocked", "")
	i.Claims.Dir = filepath.Join(s.dir, "blocked")
	if rows, err := i.Rows(); err == nil || rows != nil {
		t.Errorf("%v, %v", rows, err)
	}
	i.Claims.Dir = filepath.Join(s.dir, "never made")
	if rows, err := i.Rows(); err != nil || len(rows) != 1 || rows[0].State != Free {
		t.Errorf("%v, %v", rows, err)
	}
}

// A machine without a PCI bus has no PFs; a wrong directory is an error.
func TestInventoryWithoutPFs(t *testing.T) {
	s := newStock(t)
	if pfs, rows, err := s.inventory().Look(); err != nil || pfs != nil || rows != nil {
		t.Errorf("%v, %v, %v", pfs, rows, err)
	}
	i := s.inventory()
	i.Sys = Sysfs(t.TempDir())
	if rows, err := i.Rows(); err != nil || rows != nil {
		t.Errorf("%v, %v", rows, err)
	}
	i.Sys += "/nowhere"
	if rows, err := i.Rows(); err == nil || rows != nil {
		t.Errorf("%v, %v", rows, err)
	}
}

// The names of the JSON are what scripts go by.
func TestInventoryJSON(t *testing.T) {
	s := newStock(t)
	s.pf("0000:01:00.0", "ens1", "0000:01:10", "igbvf")
	s.held["ens1"][0].VLAN = 7
	s.claim(&Record{
		Container: "c", IfName: "net1", Pod: "shop/web", Network: "blue", PCI: "0000:01:10.0", MAC: "02:00:00:00:00:09",
		Ref: podns.Ref{Path: "/live/1"},
	})
	rows, err := s.inventory().Rows()
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.MarshalIndent(rows, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	want := `[
 {
  "pf": "ens1",
  "pfPCI": "0000:01:00.0",
  "vf": 0,
  "pci": "0000:01:10.0",
  "driver": "igbvf",
  "link": "vf0",
  "numa": 1,
  "state": "in pod",
  "namespace": "shop",
  "pod": "web",
  "container": "c",
  "interface": "net1",
  "network": "blue",
  "mac": "02:00:00:00:00:09",
  "vlan": 7,
  "admin": {
   "mac": "00:00:00:00:00:00",
   "vlan": 7,
   "qos": 0,
   "proto": "802.1q",
   "spoofchk": "",
   "trust": "",
   "linkState": "auto",
   "minTxRate": 0,
   "maxTxRate": 0
  },
  "counters": {
   "rxPackets": 0,
   "txPackets": 0,
   "rxBytes": 100,
   "txBytes": 0,
   "rxDropped": 0,
   "txDropped": 0
  }
 }
]`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
}

// The running kernel's netlink answers without entering a namespace, and the
// inventory looks for namespaces itself when nobody else does.
func TestInventoryOfThisKernel(t *testing.T) {
	s := newStock(t)
	s.pf("0000:01:00.0", "lo", "0000:01:10", "igbvf", "igbvf")
	s.claim(&Record{PCI: "0000:01:10.0", Ref: podns.Ref{Path: "/proc/self/ns/net"}})
	s.claim(&Record{PCI: "0000:01:10.1", Ref: podns.Ref{Path: filepath.Join(s.dir, "gone")}})
	i := s.inventory()
	i.Kernel, i.Lives = Resident{Linux{Sys: i.Sys}}, nil
	rows, err := i.Rows()
	if err != nil || len(rows) != 2 || rows[0].State != InPod || rows[1].State != Leaked || rows[0].Admin != nil {
		t.Errorf("%+v, %v", rows, err)
	}
}
