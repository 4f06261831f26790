package install

import (
	"bytes"
	"context"
	"encoding/json"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(child())
	}
	goleak.VerifyTestMain(m)
}

const flannel = `{
    "cniVersion": "0.3.1",
    "name": "cbr0",
    "plugins": [
        {"type": "flannel", "delegate": {"hairpinMode": true}},
        {"type": "portmap", "capabilities": {"portMappings": true}}
    ]
}
`

// node is a node's directories below a temporary root, and the installer for it.
type node struct {
	*Installer
	t    *testing.T
	root string

	mu     sync.Mutex
	clock  time.Time
	events []Event
	told   chan struct{} // gets a value after each event, if there is room
}

func newNode(t *testing.T) *node {
	t.Helper()
	root := t.TempDir()
	n := &node{t: t, root: root, clock: time.Unix(1_800_000_000, 0), told: make(chan struct{}, 1)}
	source := filepath.Join(t.TempDir(), "source")
	n.Installer = &Installer{
		Root:   root,
		Paths:  Paths{ConfDir: "/etc/cni/net.d", BinDir: "/opt/cni/bin", Runtime: network.Containerd},
		Plugin: source,
		Poll:   50 * time.Millisecond,
		Now:    n.now,
		Tell:   n.hear,
		Log:    slog.New(slog.DiscardHandler),
	}
	writeFile(t, source, "plugin one", 0o755)
	return n
}

// counted returns how often a step of this name was done from now on.
func (n *node) counted(step string) func() int64 {
	c := &counter{Handler: slog.DiscardHandler, step: step}
	n.Log = slog.New(c)
	return c.done.Load
}

type counter struct {
	slog.Handler
	step string
	done atomic.Int64
}

func (c *counter) Enabled(context.Context, slog.Level) bool { return true }

func (c *counter) Handle(_ context.Context, r slog.Record) error {
	if r.Message == c.step {
		c.done.Add(1)
	}
	return nil
}

func (n *node) now() time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.clock
}

func (n *node) pass(d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.clock = n.clock.Add(d)
}

func (n *node) hear(e Event) {
	n.mu.Lock()
	n.events = append(n.events, e)
	n.mu.Unlock()
	select {
	case n.told <- struct{}{}:
	default:
	}
}

// heard returns what was told for a reason.
func (n *node) heard(reason Reason) []Event {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(n.events), func(e Event) bool { return e.Reason != reason })
}

// until waits until something is so, looking again after each event.
func (n *node) until(what string, so func() bool) {
	n.t.Helper()
	giveUp := time.After(time.Minute)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-n.told:
		case <-tick.C:
		case <-giveUp:
			n.mu.Lock()
			defer n.mu.Unlock()
			n.t.Fatalf("waited in vain until %s; events: %+v\nfiles: %q", what, n.events, n.files("/etc/cni/net.d"))
		}
	}
}

func (n *node) path(p string) string { return filepath.Join(n.root, p) }

// put makes a file, or puts another in its place, in one step: who follows the
// directory sees no half of it.
func (n *node) put(path, content string) {
	n.t.Helper()
	half := filepath.Join(filepath.Dir(n.path(path)), ".half")
	writeFile(n.t, half, content, 0o644)
	if err := os.Rename(half, n.path(path)); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) get(path string) string {
	raw, err := os.ReadFile(n.path(path))
	if err != nil {
		return ""
	}
	return string(raw)
}

func (n *node) files(dir string) []string {
	entries, err := os.ReadDir(n.path(dir))
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func (n *node) there(path string) bool {
	_, err := os.Lstat(n.path(path))
	return err == nil
}

// entry returns our conf's list and the plugin's keys.
func (n *node) entry() (list struct {
	Name    string
	Plugins []map[string]json.RawMessage
}) {
	n.t.Helper()
	if err := json.Unmarshal([]byte(n.get(confFile)), &list); err != nil || len(list.Plugins) != 1 {
		n.t.Fatalf("our conf: %v: %s", err, n.get(confFile))
	}
	return list
}

const (
	confFile   = "/etc/cni/net.d/" + ConfName
	pluginFile = "/opt/cni/bin/" + PluginName
	markerFile = "/var/lib/cni/multiplexer/" + network.UninstallingFile
)

func writeFile(t *testing.T, path, content string, mode fs.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}

// firstConf is what a runtime takes: the first file by name with one of its
// extensions.
func firstConf(t *testing.T, dir string) (string, []byte) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", nil
	}
	for _, e := range entries {
		if slices.Contains([]string{".conf", ".conflist", ".json"}, filepath.Ext(e.Name())) {
			raw, rerr := os.ReadFile(filepath.Join(dir, e.Name()))
			if rerr != nil {
				t.Fatal(rerr)
			}
			return e.Name(), raw
		}
	}
	return "", nil
}

func wantText(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q does not say %q", text, part)
		}
	}
}

func jsonEqual(t *testing.T, got, want string) {
	t.Helper()
	var a, b bytes.Buffer
	if err := json.Compact(&a, []byte(got)); err != nil {
		t.Fatalf("%v: %s", err, got)
	}
	if err := json.Compact(&b, []byte(want)); err != nil {
		t.Fatalf("%v: %s", err, want)
	}
	if a.String() != b.String() {
		t.Errorf("got  %s\nwant %s", a.String(), b.String())
	}
}
