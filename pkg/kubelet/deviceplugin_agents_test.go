package kubelet

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/multiplexer-cni/multiplexer/internal/kubelettest"
)

// abandoned leaves a socket as a crashed agent does.
func abandoned(t *testing.T, path string, age time.Duration) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err = l.Close(); err != nil {
		t.Fatal(err)
	}
	if err = os.Chtimes(path, time.Time{}, time.Now().Add(-age)); err != nil {
		t.Fatal(err)
	}
}

func TestPluginAfterCrash(t *testing.T) {
	bothWays(t, func(t *testing.T, m *kubelettest.DeviceManager, dir string, how Registered) {
		of, name := watcherDir, "multiplexer-intel.com_sriov.sock"
		if how == ByRegister {
			of, name = registerDir, "multiplexer-intel.com_sriov-01234567.sock"
		}
		in := func(name string) string { return filepath.Join(dir, of, name) }
		abandoned(t, in(name), time.Hour)
		abandoned(t, in("multiplexer-intel.com_gone.sock"), time.Hour)
		abandoned(t, in(".multiplexer-89abcdef"), time.Hour)
		abandoned(t, in(".multiplexer-fedcba98"), 0) // may be about to listen
		abandoned(t, in("other.sock"), time.Hour)
		if err := os.WriteFile(in("multiplexer-notes"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		p := plug(t, dir, nil)
		has(t, m, "ab", "c", 0) // once more if it has begun to call the dead one
		p.is(t, how)
		all := strings.Join(sockets(t, filepath.Join(dir, of)), " ")
		if strings.Contains(all, "gone") || strings.Contains(all, "89abcdef") || strings.Contains(all, "01234567") ||
			!strings.Contains(all, "fedcba98") || !strings.Contains(all, "notes") {
			t.Errorf("left: %s", all)
		}
		if _, err := os.Stat(in("other.sock")); err != nil {
			t.Error(err)
		}
	})
}

func TestPluginSocketTaken(t *testing.T) {
	dir := shortDir(t)
	m := kubelettest.StartDeviceManager(t, dir)
	path := filepath.Join(dir, watcherDir, "multiplexer-intel.com_sriov.sock")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	p := plug(t, dir, nil)
	eventually(t, "says what is in the way", func() bool { return strings.Contains(p.Status().Error, path+" is there and is no socket") })
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	has(t, m, "ab", "c", 1)
	if info, err := os.Lstat(path); err != nil || info.Mode() != os.ModeSocket|0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

// Two agents for a moment: the later one serves, the end of the former does
// not disturb it, and when the later one ends first, the former is back.
func TestPluginTakenOver(t *testing.T) {
	for _, older := range []bool{false, true} {
		for _, how := range []Registered{ByWatcher, ByRegister} {
			t.Run(fmt.Sprintf("%s older=%v", how, older), func(t *testing.T) { testTakenOver(t, how, older) })
		}
	}
}

func testTakenOver(t *testing.T, how Registered, older bool) {
	dir := shortDir(t)
	var options []kubelettest.ManagerOption
	if older {
		options = append(options, kubelettest.Older())
	}
	if how == ByRegister {
		options = append(options, kubelettest.WithoutWatcher())
	}
	m := kubelettest.StartDeviceManager(t, dir, options...)
	first := plug(t, dir, func(p *DevicePlugin) { p.Offer(devices("1")) })
	has(t, m, "1", "", 1)
	first.is(t, how)
	second := plug(t, dir, func(p *DevicePlugin) {
		p.Offer(devices("2"))
		if older && how == ByRegister { // that kubelet cuts it off when the first one ends
			p.pace.lost = 3 * time.Second
		}
	})
	m.RequireFor(t, vf, patience, func(r kubelettest.Resource) bool { return strings.Join(r.Healthy, "") == "2" })
	if how == ByWatcher {
		eventually(t, "the first one yields", func() bool {
			s := first.Status()
			return s.Registered == Unregistered && s.Streams == 0 && strings.Contains(s.Error, "another agent serves")
		})
	}
	first.end()
	has(t, m, "2", "", 0)
	second.is(t, how)
	if older && how == ByRegister {
		return // that kubelet keeps no plugin for another that ends
	}
	third := plug(t, dir, func(p *DevicePlugin) { p.Offer(devices("3")) })
	m.RequireFor(t, vf, patience, func(r kubelettest.Resource) bool { return strings.Join(r.Healthy, "") == "3" })
	third.end()
	second.Offer(devices("4"))
	has(t, m, "4", "", 0)
	second.is(t, how)
	if all := append(sockets(t, filepath.Join(dir, watcherDir)), sockets(t, filepath.Join(dir, registerDir))...); len(all) != 1 {
		t.Errorf("sockets %v", all)
	}
}
