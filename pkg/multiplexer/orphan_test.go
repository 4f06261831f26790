package multiplexer_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// A plugin is killed in a DEL that writes no line: the container is one from
// before the installation. Its delegate goes on, and the next call for the
// container starts no other beside it.
func TestOrphanWithoutAJournal(t *testing.T) {
	for name, c := range map[string]struct {
		verb    string
		between func(m *multus)
	}{
		"DEL":                    {"DEL", nil},
		"DEL without its file":   {"DEL", loseJournal},
		"ADD":                    {"ADD", nil},
		"ADD without its file":   {"ADD", loseJournal},
		"GC":                     {"GC", nil},
		"GC by Multus's records": {"GC", func(m *multus) { loseJournal(m); m.add("c1", 0, m.trio()...); m.must(m.pod.Close()) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // it waits most of the time
			m := newMultus(t)
			m.annotations = map[string]string{}
			m.write("net.d/10-cluster.conflist", m.list("cluster", "10.0.0.0/24", obj{"DEL": []any{obj{"touch": "deleting"}, obj{"waitFor": "go"}, obj{"touch": "deleted"}}}))
			first, err := m.node.StartCNI(t.Context(), m.request("DEL", "c1", m.stdin(nil)))
			m.must(err)
			m.await("deleting")
			m.must(first.Kill())
			_, err = first.Wait()
			m.must(err)
			m.write("net.d/10-cluster.conflist", m.list("cluster", "10.0.0.0/24", nil))
			if c.between != nil {
				c.between(m)
			}
			m.forget()
			var extra obj
			if c.verb == "GC" {
				extra = m.valid()
			}
			second, err := m.node.StartCNI(t.Context(), m.request(c.verb, "c1", m.stdin(extra)))
			m.must(err)
			select {
			case <-second.Done():
				t.Errorf("it did not wait for the first DEL's delegate, and called %q", m.calls())
			case <-time.After(500 * time.Millisecond):
				m.want(m.calls(), []string(nil))
			}
			m.write("rec/go", "")
			out, err := second.Wait()
			m.must(err)
			if e := out.Error(); e != nil {
				t.Fatalf("%s\n%s", e, out.Stderr)
			}
			m.await("deleted") // and was not killed
		})
	}
}

// loseJournal removes the file of a container's journal.
func loseJournal(m *multus) { m.must(os.Remove(m.file("state/journal/c1"))) }

// What a killed DEL left in running/ delays nobody when no delegate lives, and
// makes nothing fail, whatever it is.
func TestGuardThatNobodyHolds(t *testing.T) {
	for name, put := range map[string]func(path string) error{
		"file":      func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"directory": func(path string) error { return os.Mkdir(path, 0o700) },
		"link":      func(path string) error { return os.Symlink("/etc/passwd", path) },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.must(os.MkdirAll(f.file("state/running"), 0o700))
			for _, verb := range []string{"DEL", "ADD"} {
				f.annotations = map[string]string{}
				start := time.Now()
				f.ok(verb, "c1")
				usual := time.Since(start)
				if verb == "ADD" {
					f.ok("DEL", "c1")
				}
				f.must(put(f.file("state/running/c1")))
				start = time.Now()
				f.ok(verb, "c1")
				if took := time.Since(start); took > usual+9*time.Second { // a delegate that lives is waited for 10 s
					t.Errorf("%s took %s", verb, took)
				}
			}
		})
	}
}

// What a delegate that ran out of its time left running outside its process
// group is ended where no journal tells the next call of it.
func TestCutShortWithoutAJournal(t *testing.T) {
	t.Parallel() // it waits most of the time
	f := newFixture(t)
	f.write("net.d/10-cluster.conflist", f.list("cluster", "10.0.0.0/24", obj{"DEL": []any{obj{"fork": "10m"}, obj{"touch": "forked"}, obj{"sleep": "1h"}}}))
	t.Cleanup(f.endDaemons)
	f.config = obj{"timeout": obj{"del": "15s"}}
	before := f.snapshot()
	f.refused(f.call("DEL", "c1", nil), 11, "out of time")
	f.await("forked")
	for giveUp := time.Now().Add(time.Minute); f.snapshot() != before && time.Now().Before(giveUp); {
		time.Sleep(50 * time.Millisecond)
	}
	nettest.RequireSame(t, before, f.snapshot())
}

// What a delegate that ended by itself left behind on purpose is let live by the
// next call, also where no journal tells of it.
func TestDaemonWithoutAJournal(t *testing.T) {
	f := newFixture(t)
	t.Cleanup(f.endDaemons)
	f.write("net.d/10-cluster.conflist", f.list("cluster", "10.0.0.0/24", obj{"DEL": []any{obj{"fork": "10m"}, obj{"error": obj{"code": 7, "msg": "not yet"}}}}))
	f.must(os.MkdirAll(f.file("state/journal"), 0o700))
	f.must(os.WriteFile(f.file("state/journal/c1"), nil, 0o600))
	f.refused(f.call("DEL", "c1", nil), 7, "not yet")
	daemons := func() string {
		pids, err := exec.Command("ip", "netns", "pids", f.node.Name()).Output()
		f.must(err)
		return string(pids)
	}
	before := daemons()
	if before == "" {
		t.Fatal("the delegate left nothing behind")
	}
	f.write("net.d/10-cluster.conflist", f.list("cluster", "10.0.0.0/24", nil))
	f.ok("DEL", "c1")
	if after := daemons(); after != before {
		t.Errorf("processes %q before, %q after", before, after)
	}
}

// A mark for release, or a log, that is a FIFO without a reader holds nobody up.
func TestFIFOsThatNobodyReads(t *testing.T) {
	f := newFixture(t)
	f.config = obj{"logFile": f.file("log")}
	f.annotations = map[string]string{}
	f.must(unix.Mkfifo(f.file("log"), 0o600))
	f.ok("ADD", "c1")
	f.must(unix.Mkfifo(f.file("state/release/c1"), 0o600))
	out := f.call("DEL", "c1", nil)
	if e := out.Error(); e != nil {
		t.Fatal(e)
	}
	f.want(f.calls(), []string{"ADD cluster eth0", "DEL cluster eth0"})
	if !strings.Contains(string(out.Stderr), f.file("log")+" is no regular file") {
		t.Errorf("standard error: %s", out.Stderr)
	}
	for _, path := range []string{"state/release/c1", "state/journal/c1"} {
		if _, err := os.Lstat(f.file(path)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left: %v", path, err)
		}
	}
}
