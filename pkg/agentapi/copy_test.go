package agentapi

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

func TestCopy(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if c, err := LoadCopy(dir); c != nil || err != nil {
		t.Errorf("nothing there: %v, %v", c, err)
	}
	ref := Reference{"kube-system", "everybody"}
	said := &Copy{
		Namespaces: []string{"shop"}, Networks: []Reference{ref}, Definitions: []Definition{{Reference: ref, Config: `{"type":"x"}`}},
		Facts: Facts{Ranges: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Runtime: network.CRIO},
	}
	if err := said.Save(dir); err != nil {
		t.Fatal(err)
	}
	read, err := LoadCopy(dir)
	if diff := cmp.Diff(said, read, cmpopts.EquateComparable(netip.Prefix{})); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	if !read.HasNetworks("shop") || read.HasNetworks("other") || !read.Knows([]Reference{ref}) || read.Knows([]Reference{ref, {"a", "b"}}) {
		t.Error("it knows other things than were said")
	}
	var none *Copy
	if none.Knows(nil) {
		t.Error("no copy knows something")
	}
	path := filepath.Join(dir, copyFile)
	before, err := os.Stat(path)
	if err != nil || before.Mode().Perm() != 0o600 {
		t.Fatal(err, before.Mode())
	}
	if err = said.Save(dir); err != nil {
		t.Fatal(err)
	}
	if after, statErr := os.Stat(path); statErr != nil || !os.SameFile(before, after) {
		t.Error("what is there already is written again")
	}
	said.Namespaces = nil
	if err = said.Save(dir); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Errorf("%v, files %v", err, files)
	}
}

func TestCopyThatCannotBeRead(t *testing.T) {
	for text, want := range map[string]struct {
		kind network.Kind
		word string
	}{
		`{"version":2}`:                 {network.Unsupported, "upgrade the multiplexer plugin"},
		`{"version":2,"namespaces":{}}`: {network.Unsupported, "upgrade the multiplexer plugin"},
		`{"namespaces":`:                {network.IO, "remove it"},
		"":                              {network.IO, "remove it"},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, copyFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if read, err := LoadCopy(dir); read != nil || !errors.Is(err, want.kind) || !strings.Contains(err.Error(), want.word) {
			t.Errorf("%q: %v, %v", text, read, err)
		}
	}
	dir := t.TempDir()
	later := `{"version":2,"namespaces":["shop"],"networks":"another shape","definitions":7}`
	if err := os.WriteFile(filepath.Join(dir, copyFile), []byte(later), 0o600); err != nil {
		t.Fatal(err)
	}
	if read, err := LoadCopy(dir); !errors.Is(err, network.Unsupported) || read == nil || !read.HasNetworks("shop") || read.HasNetworks("other") {
		t.Errorf("of a later format the namespaces are known: %v, %v", read, err)
	}
	dir = t.TempDir()
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, copyFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadCopy(dir); !errors.Is(err, network.IO) {
		t.Errorf("a link: %v", err)
	}
	if err := (&Copy{}).Save("/proc/nowhere"); err == nil {
		t.Error("a directory that cannot be made is no error")
	}
}

// What is at the socket's path and is no socket is somebody's file.
func TestListenTakesNoFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), "is no socket") {
		t.Errorf("%v", err)
	}
	if raw, err := os.ReadFile(path); err != nil || string(raw) != "precious" {
		t.Errorf("%q, %v", raw, err)
	}
}

// Two agents write at once, in an upgrade: neither takes the other's file
// away. What one left that was killed goes.
func TestCopyOfTwoAgents(t *testing.T) {
	dir := t.TempDir()
	old, fresh := filepath.Join(dir, "."+copyFile+".1"), filepath.Join(dir, "."+copyFile+".2")
	for _, path := range []string{old, fresh} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for path, age := range map[string]time.Duration{old: 2 * youngest, fresh: -time.Hour} { // a slow machine makes none old
		then := time.Now().Add(-age)
		if err := os.Chtimes(path, then, then); err != nil {
			t.Fatal(err)
		}
	}
	var writing sync.WaitGroup
	failed := make([]error, 2)
	for agent := range failed {
		writing.Go(func() {
			for i := range 100 {
				c := &Copy{Namespaces: []string{fmt.Sprintf("%d-%d", agent, i)}}
				failed[agent] = errors.Join(failed[agent], c.Save(dir))
			}
		})
	}
	writing.Wait()
	if err := errors.Join(failed...); err != nil {
		t.Error(err)
	}
	left, err := filepath.Glob(filepath.Join(dir, ".*"))
	if err != nil || len(left) != 1 || left[0] != fresh {
		t.Errorf("left over: %q, %v", left, err)
	}
}

// Two agents listen at once: each knows which socket is its own.
func TestListenOfTwoAgents(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	for range 200 {
		sockets, failed := make([]*Socket, 2), make([]error, 2)
		var listening sync.WaitGroup
		for agent := range sockets {
			listening.Go(func() { sockets[agent], failed[agent] = Listen(path) })
		}
		listening.Wait()
		if err := errors.Join(failed...); err != nil {
			t.Fatal(err)
		}
		there, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		first, second := os.SameFile(there, sockets[0].File), os.SameFile(there, sockets[1].File)
		if first == second {
			t.Fatalf("%v of the first, %v of the second is at the path", first, second)
		}
		mine := sockets[0]
		if second {
			mine = sockets[1]
		}
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		accepted, err := accept(mine)
		if err != nil {
			t.Fatalf("whose file is there is not reached by it: %v", err)
		}
		if err = errors.Join(accepted.Close(), conn.Close(), sockets[0].Close(), sockets[1].Close()); err != nil {
			t.Fatal(err)
		}
	}
	if left, err := filepath.Glob(path + ".*"); err != nil || len(left) > 0 {
		t.Errorf("left over: %q, %v", left, err)
	}
}

// accept takes a connection that is there already.
func accept(s *Socket) (net.Conn, error) {
	if err := s.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return nil, err
	}
	return s.Accept()
}
