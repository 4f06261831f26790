package provision_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/multiplexer-cni/multiplexer/internal/sriovtest"
	"github.com/multiplexer-cni/multiplexer/pkg/podns"
	"github.com/multiplexer-cni/multiplexer/pkg/provision"
	"github.com/multiplexer-cni/multiplexer/pkg/resource"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// node is a machine with one card, and an agent that can start and stop.
type node struct {
	*testing.T
	card    *sriovtest.Card
	options provision.Options
	agent   *provision.Provisioner
	log     *safeBuffer

	mu    sync.Mutex
	given map[string]string // by kubelet; nil = it does not answer
}

func newNode(t *testing.T, d sriovtest.Driver) *node {
	t.Helper()
	n := &node{T: t, card: sriovtest.NewCard(t, d), log: &safeBuffer{}, given: map[string]string{}}
	dir := t.TempDir()
	n.options = provision.Options{
		Sys: n.card.Sys(), Kernel: n.card, Writer: n.card, Claims: sriov.NewClaims(dir, filepath.Join(dir, "sriov-cni")),
		Allocated: func(context.Context) (map[string]string, error) {
			n.mu.Lock()
			defer n.mu.Unlock()
			if n.given == nil {
				return nil, errors.New("no answer from kubelet")
			}
			return n.given, nil
		},
		StateDir: dir, BootIDPath: filepath.Join(dir, "boot_id"), Now: time.Now,
		Log:     slog.New(slog.NewTextHandler(n.log, nil)),
		Timeout: 5 * time.Second, Retry: 5 * time.Millisecond, Grace: 5 * time.Millisecond,
	}
	n.boots("boot 1")
	return n
}

func (n *node) must(err error) {
	n.Helper()
	if err != nil {
		n.Fatal(err)
	}
}

// boots makes it another boot.
func (n *node) boots(id string) { n.must(os.WriteFile(n.options.BootIDPath, []byte(id), 0o600)) }

// kubelet says what it gave to whom.
func (n *node) kubelet(given map[string]string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.given = given
}

// start begins an agent with this wish, and returns its end.
func (n *node) start(pfs ...resource.PF) (stop func()) {
	n.Helper()
	p, err := provision.New(n.options)
	n.must(err)
	n.agent = p
	p.Configure(pfs)
	ctx, cancel := context.WithCancel(n.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if runErr := <-ended; runErr != nil {
			n.Error(runErr)
		}
	})
	n.Cleanup(stop)
	return stop
}

// eventually waits until something is so: long, as machines under load are slow.
func (n *node) eventually(what string, so func() bool) {
	n.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if so() {
			return
		}
	}
	n.Fatalf("%s: not so; status %+v\n%s", what, n.agent.Status(), n.log.String())
}

// is waits until the first PF is in a state, with a reason that says all of these.
func (n *node) is(state provision.State, reasons ...string) {
	n.Helper()
	n.eventually(string(state)+" "+strings.Join(reasons, ", "), func() bool {
		all := n.agent.Status()
		if len(all) == 0 || all[0].State != state {
			return false
		}
		for _, r := range reasons {
			if !strings.Contains(all[0].Reason, r) {
				return false
			}
		}
		return true
	})
}

// onDisk is the status that another process reads, once it is the agent's.
func (n *node) onDisk() []provision.PFStatus {
	n.Helper()
	var status []provision.PFStatus
	n.eventually("the status is written down", func() bool {
		var err error
		status, err = provision.ReadStatus(n.options.StateDir)
		n.must(err)
		ours, err := json.Marshal(n.agent.Status())
		n.must(err)
		theirs, err := json.Marshal(status)
		n.must(err)
		return bytes.Equal(ours, theirs)
	})
	return status
}

func (n *node) pf() *sriov.PF {
	n.Helper()
	pf, err := n.card.Sys().PF(n.card.PFPCI())
	n.must(err)
	return pf
}

// vf is what the node shows of a VF.
func (n *node) vf(index int) (*sriov.Device, sriov.Link, sriov.Admin) {
	n.Helper()
	host, err := n.card.Open("")
	n.must(err)
	d, err := n.card.Sys().Member(n.pf(), index)
	n.must(err)
	var link sriov.Link
	if d.Netdev != "" {
		link, err = host.LinkByName(d.Netdev)
		if errors.Is(err, sriov.ErrNoLink) { // its driver changes between the two looks
			d.Driver, d.Netdev, err = "", "", nil
		}
		n.must(err)
	}
	held, err := host.VFs(n.uplink().Index)
	n.must(err)
	return d, link, held[index].Admin
}

func (n *node) uplink() sriov.Link {
	n.Helper()
	host, err := n.card.Open("")
	n.must(err)
	link, err := host.LinkByName(n.card.PF())
	n.must(err)
	return link
}

// claim gives a VF to a pod as the CNI plugin does.
func (n *node) claim(pci, boot string) (release func()) {
	n.Helper()
	raw, err := json.Marshal(sriov.Record{
		Container: "c1", IfName: "net1", Pod: "shop/cart", PCI: pci, PF: n.card.PFPCI(), Ref: podns.Ref{Path: "/run/netns/x", Boot: boot},
	})
	n.must(err)
	n.must(os.MkdirAll(n.options.Claims.Dir, 0o700))
	path := filepath.Join(n.options.Claims.Dir, pci+".json")
	n.must(os.WriteFile(path, raw, 0o600))
	return func() { n.must(os.Remove(path)) }
}

func (n *node) recordPath() string {
	return filepath.Join(n.options.StateDir, "pf", n.card.PFPCI()+".json")
}

func (n *node) noRecord() bool {
	_, err := os.Lstat(n.recordPath())
	return errors.Is(err, os.ErrNotExist)
}

// want is a PF of the configuration.
func (n *node) want(vfs int, driver string, mtu int) resource.PF {
	return resource.PF{Name: n.card.PF(), NumVFs: vfs, Driver: driver, MTU: mtu}
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// address puts an address of the node's on a device.
func (n *node) address(pci, prefix string) (remove func()) {
	n.Helper()
	host, err := n.card.Open("")
	n.must(err)
	links, err := host.Links()
	n.must(err)
	for _, l := range links {
		if l.PCI == pci {
			n.must(host.AddAddress(l.Index, netip.MustParsePrefix(prefix), false))
			return func() { n.card.DropAddresses(l.Index) }
		}
	}
	n.Fatalf("%s has no network device", pci)
	return nil
}
