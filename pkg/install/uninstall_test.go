package install

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// journals are the node's containers, as the journal's room lists them.
type journals struct {
	mu   sync.Mutex
	pods []Pod
}

func (j *journals) list(context.Context) ([]Pod, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.pods), nil
}

func (j *journals) set(pods ...Pod) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.pods = pods
}

// detach takes the networks away, all but the cluster network.
func (j *journals) detach(_ context.Context, p Pod) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	for i := range j.pods {
		if j.pods[i].Container == p.Container {
			j.pods[i].Networks = nil
		}
	}
	return nil
}

func plain() Pod  { return Pod{Container: "c1", Name: "shop/web"} }
func multi() Pod  { return Pod{Container: "c2", Name: "shop/db", Networks: []string{"shop/storage"}} }
func inWork() Pod { return Pod{Container: "c3", Busy: true} }

func newInstalled(t *testing.T) *node {
	t.Helper()
	n := newNode(t)
	n.put("/etc/cni/net.d/10-flannel.conflist", flannel)
	n.Installation = "daemonset-1"
	if err := n.Install(t.Context(), serving); err != nil {
		t.Fatal(err)
	}
	return n
}

func (n *node) removal(j *journals) Removal {
	return Removal{Pods: j.list, Settle: time.Millisecond}
}

func TestUninstall(t *testing.T) {
	n := newInstalled(t)
	stop := n.follow() // the agent runs meanwhile
	j := &journals{pods: []Pod{plain(), multi(), inWork()}}
	r := n.removal(j)
	var waited []string
	told := make(chan struct{}, 8)
	r.Waiting = func(pods []Pod) {
		waited = append(waited, names(pods))
		if !n.there(confFile) || !n.there(pluginFile) {
			t.Error("conf or plugin went before the pods")
		}
		if !n.there(markerFile) {
			t.Error("pods are waited for while new ones may come")
		}
		told <- struct{}{}
	}
	homes := 0
	r.Home = func(context.Context) error {
		homes++
		if n.there(confFile) || !n.there(pluginFile) {
			t.Error("devices go home after the conf, and before the plugin")
		}
		return nil
	}
	remover := n.restarted()
	done := make(chan error, 1)
	go func() { done <- remover.Uninstall(t.Context(), r) }()
	waits := func() {
		select {
		case <-told:
		case err := <-done:
			t.Fatalf("it ended: %v", err)
		}
	}
	waits()
	j.set(plain(), inWork())
	waits()
	j.set(plain())
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	want := []string{"container c3, shop/db (shop/storage)", "container c3"}
	if !slices.Equal(waited, want) {
		t.Errorf("waited for %q, want %q", waited, want)
	}
	if homes != 1 {
		t.Errorf("home %d times", homes)
	}
	n.until("the agent says so", func() bool { return len(n.heard(Uninstalling)) == 1 })
	n.until("it looked again", n.looked())
	stop()
	if files := n.files("/etc/cni/net.d"); !slices.Equal(files, []string{"10-flannel.conflist"}) {
		t.Errorf("conf directory %q", files)
	}
	if n.there(pluginFile) {
		t.Error("the plugin is still there")
	}

	// This installation's agent starts again: all stays as it is.
	if err := n.restarted().Install(t.Context(), serving); !errors.Is(err, ErrUninstalled) {
		t.Errorf("err %v", err)
	}
	if n.there(confFile) || n.there(pluginFile) {
		t.Error("the agent undid it")
	}
	heard := n.heard(Uninstalling)
	wantText(t, heard[len(heard)-1].Message, "was uninstalled", markerFile, "kubectl delete -f deploy/install.yaml, then apply -f", "multiplexerd install")
	// And once more is no error.
	if err := n.restarted().Uninstall(t.Context(), n.removal(j)); err != nil {
		t.Error(err)
	}
	// Another installation may come.
	next := n.restarted()
	next.Installation = "daemonset-2"
	if err := next.Install(t.Context(), serving); err != nil || !n.there(confFile) || n.there(markerFile) {
		t.Errorf("err %v, files %q", err, n.files("/etc/cni/net.d"))
	}
}

func TestUninstallGivesUpAndSaysWhatToDo(t *testing.T) {
	n := newInstalled(t)
	j := &journals{pods: []Pod{multi()}}
	ctx, cancel := context.WithCancel(t.Context())
	r := n.removal(j)
	r.Waiting = func([]Pod) { cancel() }
	err := n.restarted().Uninstall(ctx, r)
	if !errors.Is(err, network.Again) {
		t.Fatalf("err %v", err)
	}
	wantText(t, err.Error(), "1 pod still has networks: shop/db (shop/storage)", "drain the node, or use --force")
	if !n.there(confFile) || !n.there(pluginFile) || !n.there(markerFile) {
		t.Error("something went too early")
	}
}

func TestUninstallByForce(t *testing.T) {
	n := newInstalled(t)
	j := &journals{pods: []Pod{plain(), multi()}}
	r := n.removal(j)
	r.Detach = j.detach
	if err := n.restarted().Uninstall(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if n.there(confFile) || n.there(pluginFile) {
		t.Error("not uninstalled")
	}
}

func TestUninstallByForceSaysWhatFailed(t *testing.T) {
	n := newInstalled(t)
	j := &journals{pods: []Pod{multi()}}
	r := n.removal(j)
	ctx, cancel := context.WithCancel(t.Context())
	r.Detach = func(context.Context, Pod) error { cancel(); return errors.New("the VF does not answer") }
	err := n.restarted().Uninstall(ctx, r)
	if err == nil || !strings.Contains(err.Error(), "detach shop/db (shop/storage): the VF does not answer") || !n.there(confFile) {
		t.Errorf("err %v", err)
	}
	// A try that is cut short says nothing: what the one before said counts.
	ctx, cancel = context.WithCancel(t.Context())
	tries := 0
	r.Detach = func(context.Context, Pod) error {
		if tries++; tries == 1 {
			return errors.New("the VF does not answer")
		}
		cancel()
		return errors.New("signal: interrupt")
	}
	if err = n.restarted().Uninstall(ctx, r); err == nil || !strings.Contains(err.Error(), "the VF does not answer") || strings.Contains(err.Error(), "signal") {
		t.Errorf("cut short: err %v", err)
	}
}

func TestUninstallWithoutKnowingThePods(t *testing.T) {
	n := newInstalled(t)
	r := n.removal(&journals{})
	r.Pods = func(context.Context) ([]Pod, error) { return nil, os.ErrPermission }
	if err := n.restarted().Uninstall(t.Context(), r); !errors.Is(err, os.ErrPermission) || !n.there(confFile) {
		t.Errorf("err %v", err)
	}
}

// CRI-O detaches a pod by the conf that it was attached with, which calls the
// plugin: plain pods need it too.
func TestUninstallFromCRIO(t *testing.T) {
	n := newNode(t)
	n.put("/etc/cni/net.d/10-flannel.conflist", flannel)
	n.Paths.Runtime = network.CRIO
	if err := n.Install(t.Context(), serving); err != nil {
		t.Fatal(err)
	}
	j := &journals{pods: []Pod{plain()}}
	if err := n.restarted().Uninstall(t.Context(), n.removal(j)); err != nil {
		t.Fatal(err)
	}
	if n.there(confFile) || !n.there(pluginFile) || len(n.heard(PluginKept)) != 1 {
		t.Errorf("conf there: %t, plugin there: %t, events %v", n.there(confFile), n.there(pluginFile), n.heard(PluginKept))
	}
	wantText(t, fmt.Sprint(n.heard(PluginKept)), "1 pod that", "still needs", "shop/web", "uninstall again")
	j.set()
	// A pod that came while the conf went needs it as well.
	r := n.removal(j)
	r.Home = func(context.Context) error { j.set(plain()); return nil }
	if err := n.restarted().Uninstall(t.Context(), r); err != nil || !n.there(pluginFile) {
		t.Errorf("err %v, plugin there: %t", err, n.there(pluginFile))
	}
	j.set()
	if err := n.restarted().Uninstall(t.Context(), n.removal(j)); err != nil || n.there(pluginFile) {
		t.Errorf("err %v, plugin there: %t", err, n.there(pluginFile))
	}
}

// The record says where things are, whatever the flags say today; and a copy
// of our conf that a rival made does not come back.
func TestUninstallFindsWhatWasInstalled(t *testing.T) {
	n := newInstalled(t)
	n.put(confFile+".cilium_bak", n.get(confFile))
	n.put(confFile+".notes", "mine")
	remover := n.restarted()
	remover.Paths = Paths{ConfDir: "/wrong", BinDir: "/wrong"}
	if err := remover.Uninstall(t.Context(), n.removal(&journals{})); err != nil {
		t.Fatal(err)
	}
	if files := n.files("/etc/cni/net.d"); !slices.Equal(files, []string{ConfName + ".notes", "10-flannel.conflist"}) {
		t.Errorf("conf directory %q", files)
	}
	if n.there(pluginFile) {
		t.Error("the plugin is still there")
	}
}

// A record that says nothing must not look like a node that is clean.
func TestUninstallByASpoiltRecord(t *testing.T) {
	for _, spoilt := range []string{"", "{}", "null", "[]", `{"confDir":"etc","binDir":"/opt/cni/bin"}`} {
		n := newInstalled(t)
		const file = "/var/lib/cni/multiplexer/" + recordFile
		n.put(file, spoilt)
		err := n.restarted().Uninstall(t.Context(), n.removal(&journals{}))
		if !errors.Is(err, network.Malformed) || !strings.Contains(err.Error(), "remove") || !n.there(confFile) {
			t.Errorf("%q: %v, conf there: %t", spoilt, err, n.there(confFile))
		}
		if err = os.Remove(n.path(file)); err != nil {
			t.Fatal(err)
		}
		if err = n.restarted().Uninstall(t.Context(), n.removal(&journals{})); err != nil || n.there(confFile) || n.there(pluginFile) {
			t.Errorf("%q, removed: %v", spoilt, err)
		}
	}
}

// The plugin asks only whether the marker is there: so does everybody else.
func TestMarkerOfAnyKindCounts(t *testing.T) {
	for name, place := range map[string]func(path string) error{
		"empty":     func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"directory": func(path string) error { return os.Mkdir(path, 0o700) },
		"FIFO":      func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"link":      func(path string) error { return os.Symlink("/nowhere", path) },
	} {
		n := newInstalled(t)
		if err := place(n.path(markerFile)); err != nil {
			t.Fatal(err)
		}
		if m, err := ReadUninstall(n.root, "/var/lib/cni/multiplexer"); err != nil || m == nil {
			t.Errorf("%s: %v %v", name, m, err)
		}
		if err := n.restarted().Install(t.Context(), serving); err != nil || n.there(markerFile) {
			t.Errorf("%s: install ends it: %v, marker there: %t", name, err, n.there(markerFile))
		}
	}
}

func TestUninstallIsCalledOff(t *testing.T) {
	n := newInstalled(t)
	j := &journals{pods: []Pod{multi()}}
	r := n.removal(j)
	r.Waiting = func([]Pod) {
		again := n.restarted()
		again.Installation = "" // by hand
		if err := again.Install(t.Context(), serving); err != nil {
			t.Error(err)
		}
		j.set()
	}
	err := n.restarted().Uninstall(t.Context(), r)
	if !errors.Is(err, network.Again) || !n.there(confFile) || !n.there(pluginFile) {
		t.Errorf("err %v", err)
	}
}

func TestUninstallRestoresMultus(t *testing.T) {
	install := func(t *testing.T) *node {
		n := newNode(t)
		n.TakeOver = true
		n.put("/etc/cni/net.d/10-flannel.conflist", flannel)
		n.put("/etc/cni/net.d/00-a-multus.conf", multusFirst)
		if err := n.Install(t.Context(), serving); err != nil {
			t.Fatal(err)
		}
		return n
	}
	t.Run("not unless asked", func(t *testing.T) {
		n := install(t)
		if err := n.restarted().Uninstall(t.Context(), n.removal(&journals{})); err != nil || n.there("/etc/cni/net.d/00-a-multus.conf") {
			t.Errorf("err %v, files %q", err, n.files("/etc/cni/net.d"))
		}
	})
	t.Run("asked", func(t *testing.T) {
		n := install(t)
		n.put("/opt/cni/bin/multus-shim", "")
		r := n.removal(&journals{})
		r.Restore = true
		if err := n.restarted().Uninstall(t.Context(), r); err != nil || n.get("/etc/cni/net.d/00-a-multus.conf") != multusFirst {
			t.Errorf("err %v, files %q", err, n.files("/etc/cni/net.d"))
		}
	})
	t.Run("asked, and it was moved twice", func(t *testing.T) {
		n := install(t)
		n.put("/opt/cni/bin/multus-shim", "")
		newer := strings.Replace(multusFirst, "0.3.1", "1.0.0", 1)
		n.put("/etc/cni/net.d/00-a-multus.conf", newer)
		if err := n.Install(t.Context(), serving); err != nil {
			t.Fatal(err)
		}
		r := n.removal(&journals{})
		r.Restore = true
		if err := n.restarted().Uninstall(t.Context(), r); err != nil || n.get("/etc/cni/net.d/00-a-multus.conf") != newer {
			t.Errorf("err %v, files %q", err, n.files("/etc/cni/net.d"))
		}
	})
	t.Run("asked, but its plugin is gone", func(t *testing.T) {
		n := install(t)
		r := n.removal(&journals{})
		r.Restore = true
		err := n.restarted().Uninstall(t.Context(), r)
		if err == nil || !strings.Contains(err.Error(), `"multus-shim" is not in /opt/cni/bin`) || !n.there(confFile) {
			t.Errorf("err %v, files %q", err, n.files("/etc/cni/net.d"))
		}
	})
}

// An uninstallation that began after the first step of an install is what that
// waits for, and not the cluster network.
func TestInstallMeetsAnUninstallation(t *testing.T) {
	n := newNode(t)
	n.put("/etc/cni/net.d/10-flannel.conflist", flannel)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err := n.Install(ctx, func(context.Context) error { n.put(markerFile, "{}"); return nil })
	if !errors.Is(err, context.DeadlineExceeded) || n.there(confFile) {
		t.Fatalf("err %v, conf there: %t", err, n.there(confFile))
	}
	wantText(t, err.Error(), "is being uninstalled", markerFile, "install again")
}

func TestPlural(t *testing.T) {
	for n, want := range map[int]string{0: "0 pods have", 1: "1 pod has", 2: "2 pods have"} {
		if got := Plural(n, "pod has", "pods have"); got != want {
			t.Errorf("%d: %q", n, got)
		}
	}
}
