package install

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

func serving(context.Context) error { return nil }

func TestInstallOrder(t *testing.T) {
	n := newNode(t)
	n.put("/etc/cni/net.d/10-flannel.conflist", flannel)
	err := n.Install(t.Context(), func(context.Context) error {
		if n.get(pluginFile) != "plugin one" {
			t.Errorf("the agent is asked before the plugin is in place: %q", n.files("/opt/cni/bin"))
		}
		if n.there(confFile) {
			t.Error("the conf is in place before the agent serves")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if name, _ := firstConf(t, n.path("/etc/cni/net.d")); name != ConfName {
		t.Errorf("first is %s", name)
	}
	if list := n.entry(); list.Name != "cbr0" || string(list.Plugins[0]["clusterNetwork"]) != `"/etc/cni/net.d/10-flannel.conflist"` {
		t.Errorf("our conf: %s", n.get(confFile))
	}
	for path, mode := range map[string]os.FileMode{pluginFile: 0o755, confFile: 0o600} {
		if info, serr := os.Stat(n.path(path)); serr != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", path, info.Mode(), serr)
		}
	}
	if files := n.files("/opt/cni/bin"); len(files) != 1 {
		t.Errorf("left in the bin directory: %q", files)
	}
}

// kubelet makes a volume's directory readable by all. What the plugin writes
// there can hold secrets.
func TestStateIsMadePrivate(t *testing.T) {
	state := func(n *node) os.FileMode {
		info, err := os.Stat(n.path("/var/lib/cni/multiplexer"))
		if err != nil {
			t.Fatal(err)
		}
		return info.Mode().Perm()
	}
	for name, action := range map[string]func(n *node) error{
		"install":                        func(n *node) error { return n.Install(t.Context(), serving) },
		"uninstall":                      func(n *node) error { return n.Uninstall(t.Context(), n.removal(&journals{})) },
		"an agent that does not install": func(n *node) error { return Private(n.path("/var/lib/cni/multiplexer")) },
	} {
		n := newNode(t)
		n.put("/etc/cni/net.d/10-flannel.conflist", flannel)
		for _, mode := range []os.FileMode{0o755, 0o777} {
			n.put("/var/lib/cni/multiplexer/journal/c", "secret")
			if err := os.Chmod(n.path("/var/lib/cni/multiplexer"), mode); err != nil {
				t.Fatal(err)
			}
			if err := action(n); err != nil || state(n) != 0o700 {
				t.Errorf("%s: %v, mode %o", name, err, state(n))
			}
		}
	}
	if err := Private(t.TempDir() + "/none"); err != nil {
		t.Errorf("a directory that is not there: %v", err)
	}
	n := newNode(t)
	n.put("/var/lib/cni/multiplexer/dbus", "somebody else's")
	if err := Private(n.path("/var/lib/cni/multiplexer")); err == nil || !strings.Contains(err.Error(), `it holds "dbus", which is not multiplexer's`) || state(n) != 0o755 {
		t.Errorf("a directory that others use: %v, mode %o", err, state(n))
	}
	n = newNode(t)
	n.put("/var/lib/cni/multiplexer/lost+found/1", "a file system of its own")
	if err := Private(n.path("/var/lib/cni/multiplexer")); err != nil || state(n) != 0o700 {
		t.Errorf("a file system: %v, mode %o", err, state(n))
	}
}

func TestInstallWaitsForTheAgent(t *testing.T) {
	n := newNode(t)
	n.put("/etc/cni/net.d/10-flannel.conflist", flannel)
	notYet := errors.New("the socket does not answer")
	if err := n.Install(t.Context(), func(context.Context) error { return notYet }); !errors.Is(err, notYet) {
		t.Errorf("err %v", err)
	}
	if n.there(confFile) {
		t.Error("a conf without an agent")
	}
}

// The cluster network comes after us, half written first, and the directory
// is made by somebody else.
func TestInstallWaitsForTheClusterNetwork(t *testing.T) {
	n := newNode(t)
	n.Poll = time.Hour // a change must wake it
	done := make(chan error, 1)
	go func() { done <- n.Install(t.Context(), serving) }()
	n.until("it says what it waits for", func() bool { return len(n.heard(ClusterMissing)) == 1 })
	n.put("/etc/cni/net.d/10-flannel.conflist", flannel[:40])
	n.until("it says that the file cannot be read", func() bool { return len(n.heard(ClusterMissing)) == 2 })
	if n.there(confFile) {
		t.Fatal("a conf without a cluster network")
	}
	n.put("/etc/cni/net.d/10-flannel.conflist", flannel)
	n.until("it ends", func() bool { return len(done) == 1 })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	wantText(t, n.heard(ClusterMissing)[0].Message, "/etc/cni/net.d holds no", "the conf is put in place when there is one")
	if n.entry().Name != "cbr0" {
		t.Error(n.get(confFile))
	}
}

func TestInstallEndsWithItsContext(t *testing.T) {
	n := newNode(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.Install(ctx, serving) }()
	n.until("it waits", func() bool { return len(n.heard(ClusterMissing)) == 1 })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("err %v", err)
	}
}

// An upgrade: the old conf stays until the new one takes its place, also when
// the cluster network is away, and what does not differ is not touched.
func TestInstallAgain(t *testing.T) {
	n := newNode(t)
	n.put("/etc/cni/net.d/10-flannel.conflist", flannel)
	if err := n.Install(t.Context(), serving); err != nil {
		t.Fatal(err)
	}
	before := map[string]os.FileInfo{}
	for _, path := range []string{confFile, pluginFile} {
		before[path], _ = os.Stat(n.path(path))
	}
	again := n.restarted()
	if err := again.Install(t.Context(), serving); err != nil {
		t.Fatal(err)
	}
	for path, old := range before {
		if info, err := os.Stat(n.path(path)); err != nil || !os.SameFile(old, info) || !info.ModTime().Equal(old.ModTime()) {
			t.Errorf("%s was written again", path)
		}
	}
	writeFile(t, n.Plugin, "plugin two", 0o755)
	again = n.restarted()
	again.Options = []byte(`{"logLevel":"debug"}`)
	err := again.Install(t.Context(), func(context.Context) error {
		if !n.there(confFile) || strings.Contains(n.get(confFile), "logLevel") {
			t.Errorf("the conf during the upgrade: %s", n.get(confFile))
		}
		return nil
	})
	if err != nil || n.get(pluginFile) != "plugin two" || !strings.Contains(n.get(confFile), `"logLevel": "debug"`) {
		t.Errorf("%v, plugin %q, conf %s", err, n.get(pluginFile), n.get(confFile))
	}
	if taken := n.heard(ConfTaken); len(taken) > 0 {
		t.Errorf("an upgrade is nobody's doing: %v", taken)
	}
}

// restarted is the installer of the agent's next process.
func (n *node) restarted() *Installer {
	return &Installer{
		Root: n.Root, Paths: n.Paths, Plugin: n.Plugin, Options: n.Options, Installation: n.Installation, TakeOver: n.TakeOver,
		Search: n.Search, Poll: n.Poll, Now: n.now, Tell: n.hear, Log: n.Log,
	}
}

// A plugin that runs is replaced, and goes on.
func TestInstallOverARunningPlugin(t *testing.T) {
	n := newNode(t)
	n.put("/etc/cni/net.d/10-flannel.conflist", flannel)
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, n.path(pluginFile), string(raw), 0o755)
	running := exec.Command(n.path(pluginFile), "60")
	if err = running.Start(); err != nil {
		t.Fatal(err)
	}
	writable, err := os.OpenFile(n.path(pluginFile), os.O_WRONLY, 0)
	if !errors.Is(err, syscall.ETXTBSY) {
		t.Errorf("the file is not busy (%v): this test shows nothing", err)
		_ = writable.Close()
	}
	if err = n.Install(t.Context(), serving); err != nil {
		t.Error(err)
	}
	if n.get(pluginFile) != "plugin one" {
		t.Error("the plugin was not replaced")
	}
	if err = running.Process.Signal(syscall.SIGTERM); err != nil {
		t.Errorf("the old plugin is gone: %v", err)
	}
	_ = running.Wait()
}

func TestInstallRepairsThePlugin(t *testing.T) {
	for name, spoil := range map[string]func(n *node) error{
		"mode":      func(n *node) error { writeFile(n.t, n.path(pluginFile), "plugin one", 0o644); return nil },
		"same size": func(n *node) error { writeFile(n.t, n.path(pluginFile), "plugin ONE", 0o755); return nil },
		"link": func(n *node) error {
			writeFile(n.t, n.path("/elsewhere"), "precious", 0o755)
			if err := os.MkdirAll(n.path("/opt/cni/bin"), 0o755); err != nil {
				return err
			}
			return os.Symlink(n.path("/elsewhere"), n.path(pluginFile))
		},
		"half of an earlier try": func(n *node) error {
			writeFile(n.t, n.path(temporary(pluginFile)), "plu", 0o755)
			writeFile(n.t, n.path(temporary(confFile)), "{", 0o600)
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			n.put("/etc/cni/net.d/10-flannel.conflist", flannel)
			if err := spoil(n); err != nil {
				t.Fatal(err)
			}
			if err := n.Install(t.Context(), serving); err != nil {
				t.Fatal(err)
			}
			info, err := os.Lstat(n.path(pluginFile))
			if err != nil || !info.Mode().IsRegular() || info.Mode().Perm() != 0o755 || n.get(pluginFile) != "plugin one" {
				t.Errorf("%v, %v, %q", info, err, n.get(pluginFile))
			}
			if n.there("/elsewhere") && n.get("/elsewhere") != "precious" {
				t.Error("the link was followed")
			}
			if n.there(temporary(pluginFile)) || n.there(temporary(confFile)) {
				t.Error("temporary files are left")
			}
		})
	}
}

func TestInstallIntoALinkedDirectory(t *testing.T) {
	n := newNode(t)
	n.put("/srv/net.d/10-flannel.conflist", flannel)
	if err := os.MkdirAll(n.path("/etc/cni"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/srv/net.d", n.path("/etc/cni/net.d")); err != nil {
		t.Fatal(err)
	}
	if err := n.Install(t.Context(), serving); err != nil {
		t.Fatal(err)
	}
	if got := n.files("/srv/net.d"); len(got) != 2 || got[0] != ConfName {
		t.Errorf("files %q", got)
	}
}

func TestInstallRefusesBadOptions(t *testing.T) {
	n := newNode(t)
	n.Options = []byte(`{"logLevel":"loud"}`)
	if err := n.Install(t.Context(), serving); !errors.Is(err, network.Invalid) {
		t.Errorf("err %v", err)
	}
	if n.there("/opt") || n.there("/etc") {
		t.Error("something was done before the options were read")
	}
}

// Disks that refuse.
func TestInstallOnDisksThatRefuse(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounts need root")
	}
	mount := func(t *testing.T, n *node, dir, options string, flags uintptr) {
		t.Helper()
		if err := os.MkdirAll(n.path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mount("tmpfs", n.path(dir), "tmpfs", flags, options); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = syscall.Unmount(n.path(dir), syscall.MNT_DETACH) })
	}
	t.Run("read-only bin directory", func(t *testing.T) {
		n := newNode(t)
		n.put("/etc/cni/net.d/10-flannel.conflist", flannel)
		mount(t, n, "/opt/cni/bin", "", syscall.MS_RDONLY)
		err := n.Install(t.Context(), serving)
		if !errors.Is(err, syscall.EROFS) || n.there(confFile) {
			t.Errorf("err %v, conf there: %t", err, n.there(confFile))
		}
	})
	t.Run("full bin directory, an old plugin in it", func(t *testing.T) {
		n := newNode(t)
		n.put("/etc/cni/net.d/10-flannel.conflist", flannel)
		mount(t, n, "/opt/cni/bin", "size=64k", 0)
		writeFile(t, n.path(pluginFile), "the old one", 0o755)
		writeFile(t, n.Plugin, strings.Repeat("x", 200<<10), 0o755)
		err := n.Install(t.Context(), serving)
		if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("err %v", err)
		}
		if n.get(pluginFile) != "the old one" || len(n.files("/opt/cni/bin")) != 1 {
			t.Errorf("plugin %.20q, files %q", n.get(pluginFile), n.files("/opt/cni/bin"))
		}
		if err = n.Install(t.Context(), serving); !errors.Is(err, syscall.ENOSPC) || n.there(confFile) {
			t.Errorf("the next try takes the old plugin for ours: %v, conf there: %t", err, n.there(confFile))
		}
	})
	t.Run("bin directory that fills up", func(t *testing.T) {
		n := newNode(t)
		n.put("/etc/cni/net.d/10-flannel.conflist", flannel)
		mount(t, n, "/opt/cni/bin", "size=64k", 0)
		writes := n.counted("write")
		n.following()
		writeFile(t, n.path("/opt/cni/bin/big"), strings.Repeat("x", 40<<10), 0o644)
		writeFile(t, n.Plugin, strings.Repeat("x", 30<<10), 0o755)
		before, start := writes(), time.Now()
		if err := os.Remove(n.path(pluginFile)); err != nil {
			t.Fatal(err)
		}
		n.until("it fails", func() bool { return len(n.heard(Failed)) == 1 })
		n.until("it tries again, and more often than it would give up after", func() bool { return writes()-before > retakes+2 })
		if tries, took := writes()-before, time.Since(start); time.Duration(tries-1)*n.Poll > 2*(took+n.Poll) {
			t.Errorf("%d tries within %s: each wakes the next", tries, took)
		}
		if given := n.heard(GivenUp); len(given) > 0 {
			t.Errorf("it was put back not once: %v", given)
		}
		if err := os.Remove(n.path("/opt/cni/bin/big")); err != nil {
			t.Fatal(err)
		}
		n.until("it is back", func() bool { return len(n.get(pluginFile)) == 30<<10 && len(n.heard(PluginTaken)) == 1 })
	})
	t.Run("conf directory that turns read-only, then not", func(t *testing.T) {
		n := newNode(t)
		mount(t, n, "/etc/cni/net.d", "size=64k", 0)
		n.put("/etc/cni/net.d/10-flannel.conflist", flannel)
		stop := n.following()
		remount := func(flags uintptr) {
			if err := syscall.Mount("", n.path("/etc/cni/net.d"), "", syscall.MS_REMOUNT|flags, ""); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Remove(n.path(confFile)); err != nil {
			t.Fatal(err)
		}
		n.until("it is back", func() bool { return n.there(confFile) })
		if err := os.Remove(n.path(confFile)); err != nil {
			t.Fatal(err)
		}
		n.until("it is back once more", func() bool { return len(n.heard(ConfTaken)) == 2 })
		remount(syscall.MS_RDONLY)
		stop()
		writeFile(t, n.Plugin, "plugin two", 0o755) // the bin directory is fine
		again := &node{Installer: n.restarted(), t: t, root: n.root}
		again.Options = []byte(`{"logLevel":"debug"}`)
		if err := again.Install(t.Context(), serving); !errors.Is(err, syscall.EROFS) {
			t.Errorf("err %v", err)
		}
		if n.get(pluginFile) != "plugin two" || n.entry().Name != "cbr0" {
			t.Error("what could be done was not, or the old conf is gone")
		}
		remount(0)
		if err := again.Install(t.Context(), serving); err != nil || !strings.Contains(n.get(confFile), "debug") {
			t.Errorf("err %v, conf %s", err, n.get(confFile))
		}
	})
	t.Run("a file in the directory's place", func(t *testing.T) {
		n := newNode(t)
		writeFile(t, n.path("/etc/cni/net.d"), "", 0o644)
		if err := n.Install(t.Context(), serving); err == nil {
			t.Error("no error")
		}
	})
}
