package deviceplugin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/multiplexer-cni/multiplexer/internal/kubelettest"
	"github.com/multiplexer-cni/multiplexer/internal/sriovtest/cards"
	"github.com/multiplexer-cni/multiplexer/pkg/lockfile"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// soon is generous: machines under load are slow, and nothing waits for it
// when things go well.
const soon = 2 * time.Minute

// bed is a node with a kubelet.
type bed struct {
	t       *testing.T
	tree    *cards.Tree
	node    *fakeNode
	kubelet *kubelettest.DeviceManager
	dir     string // of everything on disk
	state   string // stateDir
	log     *syncBuffer

	mu      sync.Mutex
	holders map[string]string
	frozen  time.Time     // since when kubelet is not heard; zero = it is
	later   time.Duration // how much the clock is ahead
	manager *Manager
	stop    func()
	asked   int // looks
}

// newBed makes a node without cards.
func newBed(t *testing.T) *bed {
	t.Helper()
	dir, err := os.MkdirTemp("", "dp") // sockets' paths must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if rmErr := os.RemoveAll(dir); rmErr != nil {
			t.Error(rmErr)
		}
	})
	b := &bed{t: t, dir: dir, state: filepath.Join(dir, "state"), log: &syncBuffer{}, holders: map[string]string{}}
	b.tree = cards.New(filepath.Join(dir, "sys"))
	b.node = &fakeNode{sys: b.tree.Dir(), masters: map[string]int{}}
	for _, sub := range []string{"state", "config", "dev"} {
		if err = os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	b.kubelet = kubelettest.StartDeviceManager(t, filepath.Join(dir, "k"))
	t.Cleanup(func() { b.end() })
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(b.log.String())
		}
	})
	return b
}

// run starts the manager, as an agent that starts does. `change` may set more.
func (b *bed) run(change ...func(*Manager)) *Manager {
	b.t.Helper()
	b.end()
	m := &Manager{
		Sys: sriov.Sysfs(b.tree.Dir()), Kernel: b.node, Claims: sriov.NewClaims(b.state, ""),
		ConfigPath: filepath.Join(b.dir, "config", "config.json"), Prefix: "intel.com", KubeletDir: filepath.Join(b.dir, "k"),
		DeviceInfoDir: filepath.Join(b.dir, "devinfo"), DevDir: filepath.Join(b.dir, "dev"), Rescan: time.Hour,
		Holders: func() (map[string]string, time.Time) {
			now := b.now()
			b.mu.Lock()
			defer b.mu.Unlock()
			if !b.frozen.IsZero() {
				now = b.frozen
			}
			return b.holders, now
		},
		Log: slog.New(slog.NewTextHandler(b.log, nil)), Now: b.now,
	}
	for _, do := range change {
		do(m)
	}
	ctx, cancel := context.WithCancel(b.t.Context())
	done := make(chan error)
	go func() { done <- m.Run(ctx) }()
	b.manager, b.stop = m, func() {
		cancel()
		if err := <-done; err != nil {
			b.t.Errorf("the manager ended: %v", err)
		}
	}
	return m
}

// end ends the manager, if it runs.
func (b *bed) end() {
	if b.stop != nil {
		b.stop()
		b.stop = nil
	}
}

func (b *bed) now() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return time.Now().Add(b.later)
}

// pass lets time pass.
func (b *bed) pass(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.later += d
}

// configure replaces the configuration.
func (b *bed) configure(text string) {
	b.t.Helper()
	path := filepath.Join(b.dir, "config", "config.json")
	b.write(path+".new", text)
	if err := os.Rename(path+".new", path); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) write(path, text string) {
	b.t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// claim writes a pod's claim, as the plugin does.
func (b *bed) claim(r *sriov.Record) {
	b.t.Helper()
	raw, err := json.Marshal(r)
	if err != nil {
		b.t.Fatal(err)
	}
	path := filepath.Join(b.state, "vf", r.PCI+".json")
	b.write(path+".tmp", string(raw))
	if err = os.Rename(path+".tmp", path); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) unclaim(pci string) {
	b.t.Helper()
	if err := os.Remove(filepath.Join(b.state, "vf", pci+".json")); err != nil {
		b.t.Fatal(err)
	}
}

// hold says what kubelet gave to pods; nil = it does not answer.
func (b *bed) hold(holders map[string]string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.holders = holders
}

// require waits until kubelet knows a resource's devices so.
func (b *bed) require(resource string, healthy, unhealthy []string) {
	b.t.Helper()
	err := b.kubelet.Wait(resource, func(h, u []string) bool { return slices.Equal(h, healthy) && slices.Equal(u, unhealthy) }, soon)
	if err != nil {
		r := b.kubelet.Resources()[resource]
		b.t.Fatalf("%v\nhealthy (-want +got):\n%s\nunhealthy:\n%s", err, cmp.Diff(healthy, r.Healthy), cmp.Diff(unhealthy, r.Unhealthy))
	}
}

// looked waits until the manager has looked once more and nothing is left to
// do: at a look that begins after this, not at the end of one that has begun.
func (b *bed) looked() {
	b.t.Helper()
	b.asked++
	cause := fmt.Sprint("look ", b.asked, " of the test")
	b.manager.pending.init()
	b.manager.pending.add(cause)
	b.until("the manager looks", func() bool {
		b.manager.mu.Lock()
		defer b.manager.mu.Unlock()
		return b.manager.counts.looks[cause] > 0
	})
}

func (b *bed) looks() int {
	b.manager.mu.Lock()
	defer b.manager.mu.Unlock()
	n := 0
	for _, looks := range b.manager.counts.looks {
		n += looks
	}
	return n
}

// until waits for something.
func (b *bed) until(what string, ok func() bool) {
	b.t.Helper()
	for limit := time.Now().Add(soon); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			b.t.Fatalf("after %s still not: %s", soon, what)
		}
	}
}

// reasons are why devices of a resource are Unhealthy.
func (b *bed) reasons(resource string) map[string]string {
	found := map[string]string{}
	for _, o := range b.manager.Offered() {
		for _, d := range o.Devices {
			if o.Resource == resource && d.Reason != "" {
				found[d.PCI] = d.Reason
			}
		}
	}
	return found
}

// requireReason makes sure that a device is Unhealthy, and why.
func (b *bed) requireReason(resource, pci, want string) {
	b.t.Helper()
	if got := b.reasons(resource)[pci]; !strings.Contains(got, want) {
		b.t.Errorf("%s is unhealthy because %q, want %q", pci, got, want)
	}
}

// syncBuffer is a log that may be read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Buffer.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Buffer.String()
}

// read returns a file's text.
func (b *bed) read(path ...string) string {
	b.t.Helper()
	raw, err := os.ReadFile(filepath.Join(append([]string{b.dir}, path...)...))
	if err != nil {
		b.t.Fatal(err)
	}
	return string(raw)
}

// lock takes a PF's lock, as another process does.
func (b *bed) lock(pf string) (unlock func()) {
	b.t.Helper()
	dir := filepath.Join(b.state, "vf")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		b.t.Fatal(err)
	}
	f, err := lockfile.Open(b.t.Context(), filepath.Join(dir, pf+".lock"))
	if err != nil {
		b.t.Fatal(err)
	}
	return sync.OnceFunc(func() { _ = f.Close() })
}
