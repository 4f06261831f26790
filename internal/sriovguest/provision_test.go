package sriovguest

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/multiplexer-cni/multiplexer/pkg/provision"
	"github.com/multiplexer-cni/multiplexer/pkg/resource"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// setter is a provisioner on the guest's own cards.
type setter struct {
	*machine
	*provision.Provisioner
	log  *bytes.Buffer
	name string // of the first PF
}

// options are those of the agent, with everything below dir.
func provisionOptions(dir string, log *bytes.Buffer) provision.Options {
	return provision.Options{
		Sys: sys, Kernel: sriov.Linux{Sys: sys}, Writer: sriov.Linux{Sys: sys}, Claims: sriov.NewClaims(filepath.Join(dir, "state"), ""),
		Allocated: func(context.Context) (map[string]string, error) { return nil, nil },
		StateDir:  filepath.Join(dir, "state"), BootIDPath: "/proc/sys/kernel/random/boot_id",
		Log: slog.New(slog.NewTextHandler(log, nil)), Now: time.Now, Timeout: 30 * time.Second, Grace: 100 * time.Millisecond,
	}
}

// newSetter gives the test the guest with no VFs and its first PF down.
func newSetter(t *testing.T) *setter {
	t.Helper()
	m := newMachine(t)
	s := &setter{machine: m, log: &bytes.Buffer{}, name: m.pfs[0].Name}
	m.must(sriov.Linux{Sys: sys}.SetVFs(m.pfs[0].PCI, 0))
	m.must(sriov.Linux{Sys: sys}.SetAutoprobe(m.pfs[0].PCI, false))
	t.Cleanup(func() { m.must(sriov.Linux{Sys: sys}.SetAutoprobe(m.pfs[0].PCI, true)) })
	m.link(s.name, func(l netlink.Link) error { return netlink.LinkSetDown(l) })
	return s
}

// begin runs an agent's provisioner, and returns its end. One that has not ended
// would take back what the next one makes.
func (s *setter) begin(pfs ...resource.PF) (stop func()) {
	s.t.Helper()
	p, err := provision.New(provisionOptions(s.dir, s.log))
	s.must(err)
	p.Configure(pfs)
	s.Provisioner = p
	ctx, cancel := context.WithCancel(s.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		s.must(<-ended)
	})
	s.t.Cleanup(stop)
	return stop
}

func (s *setter) reaches(state provision.State) provision.PFStatus {
	s.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if all := s.Status(); len(all) > 0 && all[0].State == state {
			return all[0]
		}
	}
	s.t.Fatalf("not %s: %+v\n%s", state, s.Status(), s.log)
	return provision.PFStatus{}
}

// Real VFs are made, bound, kept while a pod has one, and taken back.
func TestProvision(t *testing.T) {
	s := newSetter(t)
	pci := s.pfs[0].PCI
	began := time.Now()
	stop := s.begin(resource.PF{Name: s.name, NumVFs: 3, MTU: 2000})
	s.reaches(provision.Done)
	t.Logf("3 VFs in %s", time.Since(began))
	pf, err := sys.PF(pci)
	s.must(err)
	s.pfs[0] = *pf
	cards := s.cards()
	contains(t, cards, "PF "+pci+" "+s.name+" mtu 2000 up true", pf.VFs[2]+" driver igbvf")
	if strings.Count(cards, "mtu 2000") != 4 {
		t.Errorf("the cards:\n%s", cards)
	}
	s.network("fast", obj{"type": "sriov", "deviceID": pf.VFs[0], "ipam": s.ipam("10.56.30.0/24")})
	p := s.pod("fast").add()

	s.Configure([]resource.PF{{Name: s.name, NumVFs: 5, MTU: 2000}})
	status := s.reaches(provision.Waiting)
	contains(t, status.Reason, pf.VFs[0], "held by pod")
	stop()
	s.begin(resource.PF{Name: s.name, NumVFs: 3, Driver: "vfio-pci", MTU: 2000})
	s.reaches(provision.Waiting)
	s.eventually("the others on vfio-pci", func() error { return s.drivers("igbvf", "vfio-pci", "vfio-pci") })
	mac := s.heldMAC(2)
	p.do("CHECK")
	p.do("DEL")
	s.Poke()
	s.reaches(provision.Done)
	s.must(s.drivers("vfio-pci", "vfio-pci", "vfio-pci"))

	s.Configure([]resource.PF{{Name: s.name, NumVFs: 3, MTU: 2000}})
	s.eventually("back on igbvf", func() error { return s.drivers("igbvf", "igbvf", "igbvf") })
	s.reaches(provision.Done)
	if again := s.heldMAC(2); again != mac {
		t.Errorf("VF 2 had %s, and has %s after another driver", mac, again)
	}

	s.Configure([]resource.PF{{Name: s.name, NumVFs: 3, Driver: "igb", MTU: 2000}}) // which takes no VF
	contains(t, s.reaches(provision.Failed).Reason, "bind driver igb", "invalid argument")
	// It is tried again soon, and has no driver for a moment then.
	s.eventually("still on igbvf", func() error { return s.drivers("igbvf", "igbvf", "igbvf") })

	s.undone()
	contains(t, s.cards(), "PF "+pci+" "+s.name+" mtu 1500 up false")
	if pf, err = sys.PF(pci); err != nil || len(pf.VFs) != 0 || sys.Autoprobe(pci) {
		t.Errorf("%v, %+v", err, pf)
	}
}

// An agent that is killed between two changes is followed by one that ends the
// work; the child below is that agent.
func TestProvisionKilled(t *testing.T) {
	s := newSetter(t)
	for _, at := range []string{"0", "1", "2", "3"} {
		child := exec.Command(os.Args[0], "-test.run", "^TestProvisionChild$")
		child.Env = append(os.Environ(), "PROVISION_DIR="+s.dir, "PROVISION_PF="+s.name, "PROVISION_AT="+at)
		out, err := child.CombinedOutput()
		if child.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("the child at %s: %v\n%s", at, err, out)
		}
	}
	s.begin(resource.PF{Name: s.name, NumVFs: 2, Driver: "vfio-pci"})
	s.reaches(provision.Done)
	s.must(s.drivers("vfio-pci", "vfio-pci"))
	s.undone()
	if pf, err := sys.PF(s.pfs[0].PCI); err != nil || len(pf.VFs) != 0 {
		t.Errorf("%v, %+v", err, pf)
	}
}

// undone takes everything back.
func (s *setter) undone() {
	s.t.Helper()
	s.Configure(nil)
	s.eventually("undone", func() error {
		if all := s.Status(); len(all) != 0 {
			return fmt.Errorf("%+v", all)
		}
		return nil
	})
}

// TestProvisionChild is not a test of its own: see TestProvisionKilled.
func TestProvisionChild(t *testing.T) {
	dir := os.Getenv("PROVISION_DIR")
	if dir == "" {
		t.Skip("is run by TestProvisionKilled")
	}
	o := provisionOptions(dir, &bytes.Buffer{})
	o.Writer = mortal{Writer: o.Writer, at: os.Getenv("PROVISION_AT")}
	p, err := provision.New(o)
	if err != nil {
		t.Fatal(err)
	}
	p.Configure([]resource.PF{{Name: os.Getenv("PROVISION_PF"), NumVFs: 2, Driver: "vfio-pci"}})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err = p.Run(ctx); err != nil {
		t.Fatal(err)
	}
}

// mortal is a Writer whose process is killed.
type mortal struct {
	provision.Writer
	at string
}

func (m mortal) die(at string) {
	if m.at == at {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL) // nothing comes after it
	}
}

func (m mortal) SetVFs(pf string, n int) error {
	m.die("0")
	err := m.Writer.SetVFs(pf, n)
	m.die("1")
	return err
}

func (m mortal) Bind(pci, driver string) error {
	m.die("2")
	err := m.Writer.Bind(pci, driver)
	m.die("3")
	return err
}

func (s *setter) drivers(want ...string) error {
	pf, err := sys.PF(s.pfs[0].PCI)
	if err != nil {
		return err
	}
	var got []string
	for i := range pf.VFs {
		d, memberErr := sys.Member(pf, i)
		if memberErr != nil {
			return memberErr
		}
		got = append(got, d.Driver)
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		return fmt.Errorf("drivers %v, want %v", got, want)
	}
	return nil
}

// heldMAC is what the PF holds for a VF.
func (s *setter) heldMAC(vf int) string {
	s.t.Helper()
	host, err := sriov.Linux{Sys: sys}.Open("")
	s.must(err)
	defer host.Close()
	link, err := host.LinkByName(s.name)
	s.must(err)
	all, err := host.VFs(link.Index)
	s.must(err)
	return all[vf].MAC
}
