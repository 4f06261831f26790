package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

const root = "../.."

// buildDemo builds the demo, and what it runs.
func buildDemo(t *testing.T) string {
	t.Helper()
	nettest.RequireRoot(t)
	// The demo inherits their paths.
	check(t, os.Setenv("MULTIPLEXER_BIN", nettest.Binary(t)))
	check(t, os.Setenv("MULTIPLEXER_CNI_PLUGINS", nettest.Plugins(t)))
	demo := filepath.Join(t.TempDir(), "demo")
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", demo, ".").CombinedOutput(); err != nil {
		t.Fatalf("build the demo: %v\n%s", err, out)
	}
	return demo
}

// enterMachine puts the test's thread into a machine of its own, so that what
// other tests do meanwhile is not taken for the demo's: other links, and other
// directories in place of those that the demo writes to. When the machine has
// CNI directories, there is a file in each. Only what the test's own goroutine
// does, and the processes that it starts, see that machine.
func enterMachine(t *testing.T, withCNI bool) {
	t.Helper()
	runtime.LockOSThread() // the thread ends with the test
	check(t, unix.Unshare(unix.CLONE_NEWNS|unix.CLONE_NEWNET))
	check(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	for unix.Unmount("/run/netns", unix.MNT_DETACH) == nil {
		continue // the namespaces of others: they come and go
	}
	for _, dir := range []string{"/run", "/etc", "/var/lib"} {
		check(t, mountEmpty(dir))
	}
	// As on most machines, mounts spread from here to those who join later.
	check(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""))
	if withCNI {
		for _, dir := range []string{"/etc/cni/net.d", "/var/lib/cni/networks/cluster", "/run/netns", "/run/cni"} {
			check(t, os.MkdirAll(dir, 0o755))
			check(t, os.WriteFile(filepath.Join(dir, "00-mine"), []byte("keep\n"), 0o600))
		}
	}
}

// machine writes down what the demo could change on it: times of change tell
// also what was made and removed again.
func machine(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, dir := range []string{"/run", "/etc", "/var/lib"} {
		check(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := entry.Info()
			if err != nil {
				return err
			}
			fmt.Fprintln(&b, path, info.Mode(), info.Size(), info.ModTime().UnixNano())
			return nil
		}))
	}
	for _, args := range [][]string{{"ip", "-d", "link"}, {"ip", "address"}, {"ip", "route", "show", "table", "all"}, {"ip", "netns"}} {
		out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
		b.Write(out)
	}
	mounts, err := os.ReadFile("/proc/thread-self/mountinfo")
	check(t, err)
	b.Write(mounts)
	return b.String()
}

func TestDemo(t *testing.T) {
	demo := buildDemo(t)
	for name, withCNI := range map[string]bool{"machine without CNI": false, "machine with CNI": true} {
		t.Run(name, func(t *testing.T) {
			enterMachine(t, withCNI)
			before := machine(t)
			start := time.Now()
			cmd := exec.Command(demo)
			cmd.Dir = root
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("the demo failed: %v\n%s", err, out)
			}
			if took := time.Since(start); took > 30*time.Second {
				t.Errorf("the demo took %s, at most 30 s are allowed", took)
			}
			requireLines(t, string(out))
			nettest.RequireSame(t, before, machine(t))
		})
	}
}

// requireLines looks for what a reader must find, and measures the lines.
func requireLines(t *testing.T, out string) {
	t.Helper()
	text := strings.Join(strings.Fields(out), " ") // columns move
	for _, want := range []string{
		`{ "name": "telemetry", "interface": "metrics0", "mac": "02:00:00:00:60:01" }`,
		`{"mac":"02:00:00:00:60:01","name":"metrics0",`,
		`{"address":"10.244.7.4/24","gateway":"10.244.7.1","interface":2}`,
		`"routes": [ {"dst":"0.0.0.0/0","gw":"10.244.7.1"} ]`,
		"CHECK finds everything in its place",
		"NIC NETWORK ADDRESS MTU CARRIES REPLIES OF",
		"eth0 cluster 10.244.7.4/24 1500 10.96.0.0/12, 10.244.0.0/16, 10.244.7.4 node-local DNS, everything else",
		"net1 storage 192.168.50.3/24 1400 192.168.50.0/24 192.168.50.3",
		"metrics0 shop/telemetry 192.168.60.3/24 1500 192.168.60.0/24 192.168.60.3",
		"Not kept: the network's own default via 192.168.50.1 dev net1,",
		`[{ "name": "wan", "default-route": ["198.51.100.1"] }]`,
		`"routes": [{"dst":"0.0.0.0/0","gw":"198.51.100.1"}]`,
		"eth0 cluster 10.244.7.5/24 1500 10.96.0.0/12, 10.244.0.0/16, 10.244.7.5 node-local DNS",
		"net1 wan 198.51.100.3/24 1500 198.51.100.0/24, everything else 198.51.100.3",
		`rule "30000: from 10.244.7.5 lookup 30000" is missing`,
		"The rules are back: the proof holds again, and CHECK succeeds",
		"Nothing is left of the pods, and no journal",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the output lacks %q", want)
		}
	}
	requireVerdicts(t, out)
	for line := range strings.Lines(out) {
		if len(line) > 101 {
			t.Errorf("%d columns are too many: %s", len(line)-1, line)
		}
	}
	if t.Failed() {
		t.Logf("the demo printed:\n%s", out)
	}
}

// requireVerdicts compares the proofs: who asked whom, from and to which
// address, and what came of it.
func requireVerdicts(t *testing.T, out string) {
	t.Helper()
	var got []string
	for line := range strings.Lines(out) {
		if proof := regexp.MustCompile(`^  ((?:to|from) .*?)  +([0-9.]+) +([0-9.]+)  .*  (ok|WRONG: .*)\n`).FindStringSubmatch(line); proof != nil {
			got = append(got, strings.Join(proof[1:], " | "))
		}
	}
	nettest.RequireSame(t, strings.Join([]string{
		"to cluster | 10.244.7.4 | 10.244.7.254 | ok",
		"to storage | 192.168.50.3 | 192.168.50.254 | ok",
		"to shop/telemetry | 192.168.60.3 | 192.168.60.254 | ok",
		"to outside | 10.244.7.4 | 203.0.113.10 | ok",
		"from outside to net1 | 203.0.113.10 | 192.168.50.3 | ok",

		"to outside | 198.51.100.3 | 203.0.113.10 | ok",
		"to a Service | 10.244.7.5 | 10.96.0.10 | ok",
		"to a pod elsewhere | 10.244.7.5 | 10.244.8.10 | ok",
		"from outside to net1 | 203.0.113.10 | 198.51.100.3 | ok",
		"from outside to eth0 | 203.0.113.10 | 10.244.7.5 | ok",

		"to outside | 198.51.100.3 | 203.0.113.10 | ok",
		"to a Service | 198.51.100.3 | 10.96.0.10 | WRONG: by net1, not eth0",
		"to a pod elsewhere | 198.51.100.3 | 10.244.8.10 | WRONG: by net1, not eth0",
		"from outside to net1 | 203.0.113.10 | 198.51.100.3 | ok",
		"from outside to eth0 | 203.0.113.10 | 10.244.7.5 | WRONG: by net1, not eth0",
	}, "\n"), strings.Join(got, "\n"))
}

// The check for leftovers can fail: here DEL of the bridge plugin does nothing.
func TestDemoNoticesLeftovers(t *testing.T) {
	demo, plugins := buildDemo(t), nettest.Plugins(t)
	lazy := t.TempDir()
	for _, name := range []string{"host-local", "tuning"} {
		check(t, os.Symlink(filepath.Join(plugins, name), filepath.Join(lazy, name)))
	}
	script := fmt.Sprintf("#!/bin/sh\n[ $CNI_COMMAND = DEL ] || exec %q\n", filepath.Join(plugins, "bridge"))
	check(t, os.WriteFile(filepath.Join(lazy, "bridge"), []byte(script), 0o755))

	enterMachine(t, false)
	cmd := exec.Command(demo)
	cmd.Dir, cmd.Env = root, append(os.Environ(), "MULTIPLEXER_CNI_PLUGINS="+lazy)
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Error("the demo succeeded")
	}
	for _, want := range []string{
		"left: file /var/lib/cni/networks/cluster/10.244.7.5",
		"left: checkout link net1 ",
		"left: crawler link net1 ",
		"DEL did not remove everything",
	} {
		if !bytes.Contains(out, []byte(want)) {
			t.Errorf("the output lacks %q", want)
		}
	}
	if t.Failed() {
		t.Logf("the demo printed:\n%s", out)
	}
}

// A demo that is killed leaves nothing either, wherever it is.
func TestKilledDemoLeavesNothing(t *testing.T) {
	demo := buildDemo(t)
	for _, signal := range []os.Signal{unix.SIGKILL, unix.SIGINT} {
		for _, at := range []string{"multiplexer demo", "1. ", "2. ", "3. ", "4. ", "5. ", "6. ", "7. "} {
			t.Run(fmt.Sprint(signal, " at ", at), func(t *testing.T) {
				enterMachine(t, false)
				before := machine(t)
				cmd := exec.Command(demo)
				cmd.Dir = root
				cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
				out, err := cmd.StdoutPipe()
				check(t, err)
				check(t, cmd.Start())
				for lines := bufio.NewScanner(out); lines.Scan(); {
					if bytes.HasPrefix(lines.Bytes(), []byte(at)) {
						break
					}
				}
				check(t, cmd.Process.Signal(signal))
				if err = cmd.Wait(); err == nil {
					t.Error("the demo came to its end before it was killed")
				}
				nettest.RequireSame(t, before, machine(t))
			})
		}
	}
}

// What is missing is named, with what to do about it.
func TestDemoSaysWhatToDo(t *testing.T) {
	demo := buildDemo(t)
	enterMachine(t, false)
	for name, test := range map[string]struct {
		dir  string
		env  []string
		want string
	}{
		"another directory": {t.TempDir(), nil, "run `make demo` in the repository's root"},
		"no plugin":         {root, []string{"MULTIPLEXER_BIN=/nowhere/multiplexer"}, "run: make build"},
		"no CNI plugins":    {root, []string{"MULTIPLEXER_CNI_PLUGINS=/nowhere"}, "run: make demo"},
	} {
		cmd := exec.Command(demo)
		cmd.Dir, cmd.Env = test.dir, append(os.Environ(), test.env...)
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), test.want) {
			t.Errorf("%s: error %v, want output with %q, got:\n%s", name, err, test.want, out)
		}
	}
}
