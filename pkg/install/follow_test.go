package install

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// following installs and follows, until stop.
func (n *node) following() (stop func()) {
	n.t.Helper()
	if err := n.Install(n.t.Context(), serving); err != nil {
		n.t.Fatal(err)
	}
	return n.follow()
}

func (n *node) follow() (stop func()) {
	ctx, cancel := context.WithCancel(n.t.Context())
	done := make(chan error, 1)
	go func() { done <- n.Follow(ctx) }()
	ended := false
	stop = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		if err := <-done; err != nil {
			n.t.Errorf("follow: %v", err)
		}
	}
	n.t.Cleanup(stop)
	return stop
}

func newFollowed(t *testing.T) *node {
	t.Helper()
	n := newNode(t)
	n.put("/etc/cni/net.d/10-flannel.conflist", flannel)
	n.following()
	return n
}

func (n *node) confHas(parts ...string) func() bool {
	return func() bool {
		for _, part := range parts {
			if !strings.Contains(n.get(confFile), part) {
				return false
			}
		}
		return true
	}
}

func TestFollowTheClusterNetwork(t *testing.T) {
	n := newFollowed(t)
	n.put("/etc/cni/net.d/10-flannel.conflist", strings.Replace(flannel, "cbr0", "cbr1", 1))
	n.until("the conf has the new name", n.confHas(`"name": "cbr1"`))

	n.put("/etc/cni/net.d/10-flannel.conflist", strings.Replace(flannel, `"portMappings": true`, `"bandwidth": true`, 1))
	n.until("the conf has the new capability", n.confHas(`"bandwidth": true`))

	// Another network takes over: Cilium is put in flannel's place.
	n.put("/etc/cni/net.d/05-cilium.conflist", `{"cniVersion":"0.3.1","name":"cilium","plugins":[{"type":"cilium-cni"}]}`)
	n.until("the conf is Cilium's", n.confHas(`"name": "cilium"`, "05-cilium.conflist"))

	// While it is being written anew, the conf stays.
	conf := n.get(confFile)
	n.put("/etc/cni/net.d/05-cilium.conflist", `{"cniVersion`)
	n.until("it says so", func() bool { return len(n.heard(ClusterMissing)) == 1 })
	if n.get(confFile) != conf {
		t.Error("the conf did not stay")
	}
	if taken := n.heard(ConfTaken); len(taken) > 0 {
		t.Errorf("nobody took anything: %v", taken)
	}
}

func TestFollowKeepsTheConfWithoutAClusterNetwork(t *testing.T) {
	n := newFollowed(t)
	conf := n.get(confFile)
	if err := os.Remove(n.path("/etc/cni/net.d/10-flannel.conflist")); err != nil {
		t.Fatal(err)
	}
	n.until("it says so", func() bool { return len(n.heard(ClusterMissing)) == 1 })
	wantText(t, n.heard(ClusterMissing)[0].Message, "the conf stays, and new pods wait")
	if n.get(confFile) != conf {
		t.Error("the conf did not stay")
	}
	n.put("/etc/cni/net.d/20-calico.conflist", `{"cniVersion":"1.0.0","name":"calico","plugins":[{"type":"calico"}]}`)
	n.until("the next network is taken", n.confHas(`"name": "calico"`))
}

// Most programs write their file in place. What a look finds half written may be
// whole in a moment: it is looked at again soon, and told if it stays so.
func TestAFileThatIsBeingWritten(t *testing.T) {
	n := newInstalled(t)
	n.Poll = time.Hour
	for i, step := range []struct {
		content string
		told    int
	}{{flannel[:40], 0}, {flannel, 0}, {flannel[:40], 0}, {flannel[:40], 1}} {
		n.put("/etc/cni/net.d/10-flannel.conflist", step.content)
		if _, err := n.step(t.Context()); err != nil {
			t.Fatal(err)
		}
		if told := n.heard(ClusterMissing); len(told) != step.told {
			t.Errorf("look %d: told %v", i+1, told)
		}
		if again := n.pause(); step.content != flannel && (again < time.Second) != (step.told == 0) {
			t.Errorf("look %d: looks again in %s", i+1, again)
		}
	}
}

// rival renames other networks' files as cilium-agent does at its start.
func rival(dir, own string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		switch filepath.Ext(e.Name()) {
		case ".conf", ".conflist", ".json":
			if e.Name() == own {
				continue
			}
			path := filepath.Join(dir, e.Name())
			if err = os.Rename(path, path+".cilium_bak"); err != nil {
				return err
			}
		}
	}
	return nil
}

func TestFollowARivalThatRenames(t *testing.T) {
	n := newFollowed(t)
	n.put("/etc/cni/net.d/05-cilium.conflist", `{"cniVersion":"0.3.1","name":"cilium","plugins":[{"type":"cilium-cni"}]}`)
	n.until("the conf is Cilium's", n.confHas(`"name": "cilium"`))
	dir := n.path("/etc/cni/net.d")
	for i := 1; i <= retakes; i++ {
		if err := rival(dir, "05-cilium.conflist"); err != nil {
			t.Fatal(err)
		}
		n.until(fmt.Sprintf("first place is taken back, time %d", i), func() bool {
			return len(n.heard(ConfTaken)) == i && n.confHas(`"name": "cilium"`)() && !n.there(confFile+".cilium_bak")
		})
	}
	wantText(t, n.heard(ConfTaken)[0].Message, ConfName+".cilium_bak", "cni.exclusive")
	if n.get("/etc/cni/net.d/10-flannel.conflist.cilium_bak") != flannel {
		t.Error("flannel's file is not ours to touch")
	}

	if err := rival(dir, "05-cilium.conflist"); err != nil {
		t.Fatal(err)
	}
	n.until("it gives up", func() bool { return len(n.heard(GivenUp)) == 1 })
	wantText(t, n.heard(GivenUp)[0].Message, "3 times within 10m0s", ".cilium_bak")
	n.put("/etc/cni/net.d/30-more.conflist", flannel) // a change, and it looks again
	n.pass(retakeSpell - time.Second)
	n.until("it looked again", n.looked())
	if n.there(confFile) {
		t.Fatal("a fourth time within ten minutes")
	}
	n.pass(time.Second)
	n.until("it comes back after a while", n.confHas(`"name": "cilium"`))
	if len(n.heard(GivenUp)) != 1 {
		t.Errorf("said again and again: %v", n.heard(GivenUp))
	}
}

// looked is true once a step has begun and ended after now: the installer
// takes its lock file anew each time.
func (n *node) looked() func() bool {
	n.t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = unix.Close(fd) })
	if _, err = unix.InotifyAddWatch(fd, n.path("/var/lib/cni/multiplexer/install.lock"), unix.IN_OPEN|unix.IN_CLOSE_WRITE); err != nil {
		n.t.Fatal(err)
	}
	begun := false
	return func() bool {
		var event [unix.SizeofInotifyEvent]byte // one of a watched file has no name
		for {
			if _, err = unix.Read(fd, event[:]); err != nil {
				return false
			}
			opened := binary.NativeEndian.Uint32(event[4:])&unix.IN_OPEN != 0
			if begun && !opened {
				return true
			}
			begun = opened
		}
	}
}

func TestFollowAnEdit(t *testing.T) {
	n := newFollowed(t)
	want := n.get(confFile)
	// As an editor saves.
	n.put(confFile+"~", strings.Replace(want, `"portMappings": true`, `"portMappings": false`, 1))
	if err := os.Rename(n.path(confFile+"~"), n.path(confFile)); err != nil {
		t.Fatal(err)
	}
	n.until("it is corrected", func() bool { return n.get(confFile) == want })
	n.until("it says so", func() bool { return len(n.heard(ConfTaken)) == 1 })
	wantText(t, n.heard(ConfTaken)[0].Message, "was changed (capabilities)", "the installation's own configuration")

	// Half a file is no reason to stop.
	writeFile(t, n.path(confFile), want[:30], 0o644)
	n.until("it is corrected", func() bool { return n.get(confFile) == want })
}

func TestFollowThePlugin(t *testing.T) {
	n := newFollowed(t)
	if err := os.Remove(n.path(pluginFile)); err != nil {
		t.Fatal(err)
	}
	n.until("it is back", func() bool { return n.get(pluginFile) == "plugin one" && len(n.heard(PluginTaken)) == 1 })
	for i := 2; i <= retakes; i++ {
		writeFile(t, n.path(pluginFile), "plugin of old", 0o755)
		n.until("it is replaced", func() bool { return n.get(pluginFile) == "plugin one" && len(n.heard(PluginTaken)) == i })
	}
	writeFile(t, n.path(pluginFile), "plugin of old", 0o755)
	n.until("it gives up", func() bool { return len(n.heard(GivenUp)) == 1 })
	wantText(t, n.heard(GivenUp)[0].Message, "another version", "find who else installs")
	n.pass(retakeSpell)
	n.until("it is replaced after a while", func() bool { return n.get(pluginFile) == "plugin one" })
	if n.get(confFile) == "" {
		t.Error("the conf is gone")
	}
}

const multusFirst = `{"cniVersion":"0.3.1","name":"multus-cni-network","type":"multus-shim"}`

func TestFollowFilesThatSortFirst(t *testing.T) {
	n := newFollowed(t)
	n.put("/etc/cni/net.d/00-a-multus.conf", multusFirst)
	n.put("/etc/cni/net.d/00-cluster.conf", `{"cniVersion":"0.3.1","name":"early","type":"bridge"}`)
	n.put("/etc/cni/net.d/00-broken.conf", `{`)
	n.until("all are named", func() bool {
		all := fmt.Sprint(n.heard(ConfShadowed))
		return strings.Contains(all, "from multus-shim") && strings.Contains(all, `network "early" alone`) && strings.Contains(all, "cannot be read")
	})
	for _, file := range []string{"00-a-multus.conf", "00-cluster.conf", "00-broken.conf"} {
		if !n.there("/etc/cni/net.d/" + file) {
			t.Errorf("%s was touched", file)
		}
		if err := os.Remove(n.path("/etc/cni/net.d/" + file)); err != nil {
			t.Fatal(err)
		}
	}
	said := len(n.heard(ConfShadowed))
	n.until("the conf is flannel's", n.confHas(`"name": "cbr0"`))
	n.until("it looked again", n.looked())
	n.put("/etc/cni/net.d/00-a-multus.conf", multusFirst)
	n.until("what comes again is said again", func() bool { return len(n.heard(ConfShadowed)) > said })
}

func TestTakeOverFromMultus(t *testing.T) {
	n := newNode(t)
	n.TakeOver = true
	n.put("/etc/cni/net.d/10-flannel.conflist", flannel)
	n.put("/etc/cni/net.d/00-a-multus.conf", multusFirst)
	n.put("/etc/cni/net.d/00-multus.conf", multusFirst)
	stop := n.following()
	if n.get("/etc/cni/net.d/00-a-multus.conf"+asideSuffix) != multusFirst || n.there("/etc/cni/net.d/00-a-multus.conf") {
		t.Errorf("files %q", n.files("/etc/cni/net.d"))
	}
	if !n.there("/etc/cni/net.d/00-multus.conf") {
		t.Error("a file that sorts after ours was moved")
	}
	// Multus's daemon writes its file again and again.
	for i := 2; i <= retakes; i++ {
		n.put("/etc/cni/net.d/00-a-multus.conf", multusFirst)
		n.until("it is taken away again", func() bool {
			return len(n.heard(MovedAside)) == i && !n.there("/etc/cni/net.d/00-a-multus.conf")
		})
	}
	n.put("/etc/cni/net.d/00-a-multus.conf", multusFirst)
	n.until("it gives up", func() bool { return len(n.heard(GivenUp)) == 1 })
	stop()
	if name, _ := firstConf(t, n.path("/etc/cni/net.d")); name != "00-a-multus.conf" {
		t.Errorf("first is %s", name)
	}
}

// A rival that writes the same file for ever fills neither the directory nor
// the record of what was moved: one copy is kept of what it wrote last.
func TestTakeOverKeepsOneCopy(t *testing.T) {
	n := newNode(t)
	n.TakeOver = true
	n.put("/etc/cni/net.d/10-flannel.conflist", flannel)
	const rival = "/etc/cni/net.d/00-a-multus.conf"
	older := strings.Replace(multusFirst, "0.3.1", "0.4.0", 1)
	for i, content := range []string{older, multusFirst, multusFirst, multusFirst, multusFirst} {
		n.put(rival, content)
		if err := n.Install(t.Context(), serving); err != nil || n.there(rival) || len(n.heard(MovedAside)) != i+1 {
			t.Fatalf("%d: err %v, files %q, told %v", i, err, n.files("/etc/cni/net.d"), n.heard(MovedAside))
		}
		n.pass(retakeSpell)
	}
	want := []string{"00-a-multus.conf" + asideSuffix, "00-a-multus.conf" + asideSuffix + ".2", ConfName, "10-flannel.conflist"}
	if files := n.files("/etc/cni/net.d"); !slices.Equal(files, want) || n.get(rival+asideSuffix+".2") != multusFirst {
		t.Errorf("files %q, want %q", files, want)
	}
	known, err := n.installed()
	if err != nil || len(known.Aside) != 2 {
		t.Errorf("err %v, record %+v", err, known)
	}
	wantText(t, n.heard(MovedAside)[4].Message, "00-a-multus.conf"+asideSuffix+".2", "uninstall --restore")
}

// Somebody exchanges the whole directory, as a mount does.
func TestFollowADirectoryThatIsExchanged(t *testing.T) {
	n := newFollowed(t)
	if err := os.Rename(n.path("/etc/cni/net.d"), n.path("/etc/cni/old.d")); err != nil {
		t.Fatal(err)
	}
	n.put("/etc/cni/net.d/10-calico.conflist", `{"cniVersion":"1.0.0","name":"calico","plugins":[{"type":"calico"}]}`)
	n.until("the conf is in the new one", n.confHas(`"name": "calico"`))
	n.put("/etc/cni/net.d/10-calico.conflist", `{"cniVersion":"1.0.0","name":"calico2","plugins":[{"type":"calico"}]}`)
	n.until("the new one is watched", n.confHas(`"name": "calico2"`))
}

func TestInspect(t *testing.T) {
	n := newNode(t)
	n.put("/etc/cni/net.d/10-flannel.conflist", flannel)
	if err := n.Install(t.Context(), serving); err != nil {
		t.Fatal(err)
	}
	before := n.files("/etc/cni/net.d")
	r := n.Inspect()
	if !r.First || r.Cluster != "/etc/cni/net.d/10-flannel.conflist" || len(r.Findings) > 0 || len(r.Confs) != 2 {
		t.Errorf("a node in order: %+v", r)
	}
	n.put("/etc/cni/net.d/00-a-multus.conf", multusFirst)
	n.put("/etc/cni/net.d/20-broken.conf", "{")
	n.put("/etc/cni/net.d/30-other.conflist.cilium_bak", flannel)
	n.put(confFile+".bak", n.get(confFile))
	n.put(confFile, strings.Replace(n.get(confFile), "cbr0", "x", 1))
	writeFile(t, n.path(pluginFile), "another", 0o755)
	n.Paths.Warnings = []string{"max_conf_num is 0"}
	r = n.Inspect()
	all := fmt.Sprint(r.Findings)
	wantText(t, all, "max_conf_num", "00-a-multus.conf sorts before", "20-broken.conf", "renamed by Cilium", "is not as this installation makes it", ".bak is a copy", "another version")
	if r.First {
		t.Error("first, behind Multus")
	}
	for _, f := range r.Findings {
		if f.Remedy == "" || f.Kind == "" {
			t.Errorf("no remedy, or no kind: %+v", f)
		}
	}
	if after := n.files("/etc/cni/net.d"); len(after) != len(before)+4 {
		t.Errorf("looking changed the node: %q", after)
	}
	if !bytes.Contains([]byte(n.get(confFile)), []byte(`"x"`)) {
		t.Error("looking corrected the conf")
	}
}
