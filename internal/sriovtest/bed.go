package sriovtest

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// Ground is what a bed needs to be one: a kernel with a PF, and what a node's
// administrator can do to the PF's VFs.
type Ground struct {
	Sys    sriov.Sysfs
	Kernel sriov.Kernel
	PFPCI  string
	Driver string   // the PF's
	VF     string   // the VFs'
	Guards bool     // an untrusted VF may not change an address that its PF fixed
	Cannot []string // keys of a configuration that the driver refuses

	// NewPod makes a pod's namespace. end ends it, as its last process does.
	NewPod    func() (path string, end func())
	RemoveVFs func()
	MakeVFs   func() // waits for their network devices
	// Bind gives a VF a driver: its own, "vfio-pci", or "" = none.
	Bind func(pci, driver string) error
}

// Bed is the ground for one case: a plugin with a state directory of its own.
type Bed struct {
	Ground
	t      testing.TB
	dir    string
	plugin *sriov.Plugin
	warned *buffer
	pods   int

	mu     sync.Mutex
	leased map[string]string // addresses by attachment
	broken error             // what IPAM says to all calls
}

// obj is a JSON object.
type obj = map[string]any

// buffer may be written to by several calls at once.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func newBed(t testing.TB, g Ground) *Bed {
	t.Helper()
	b := &Bed{Ground: g, t: t, dir: inMemory(t), warned: &buffer{}, leased: map[string]string{}}
	b.must(os.MkdirAll(b.in("state"), 0o700))
	b.boots("this boot")
	b.plugin = &sriov.Plugin{
		Sys: g.Sys, Kernel: g.Kernel, Foreign: b.in("foreign"), BootIDPath: b.in("boot"), Stderr: b.warned, Now: time.Now,
	}
	return b
}

// inMemory makes a directory in memory where the machine has a place for it: a
// model's sysfs is hundreds of files.
func inMemory(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "sriovtest-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if removeErr := os.RemoveAll(dir); removeErr != nil {
			t.Error(removeErr)
		}
	})
	return dir
}

func (b *Bed) in(name string) string { return filepath.Join(b.dir, name) }

func (b *Bed) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// boots makes it another boot of the node.
func (b *Bed) boots(id string) {
	b.t.Helper()
	b.must(os.WriteFile(b.in("boot"), []byte(id+"\n"), 0o600))
}

func (b *Bed) can(key string) bool { return !slices.Contains(b.Cannot, key) }

// patience is how long something may take: cards take their time, emulated ones
// on a busy machine most of all.
const patience = time.Minute

// eventually tries until it succeeds.
func (b *Bed) eventually(what string, try func() error) {
	b.t.Helper()
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if err = try(); err == nil {
			return
		}
	}
	b.t.Fatalf("%s: %v", what, err)
}

// claim returns a VF's claim, nil = nobody has it.
func (b *Bed) claim(vf int) *sriov.Record {
	b.t.Helper()
	r, err := sriov.NewClaims(b.in("state"), "").Get(b.pf().VFs[vf])
	b.must(err)
	return r
}

func (b *Bed) write(name string, content any) {
	b.t.Helper()
	raw, err := json.Marshal(content)
	b.must(err)
	b.must(os.WriteFile(b.in(name), raw, 0o600))
}
