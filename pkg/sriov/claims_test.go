package sriov

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/multiplexer-cni/multiplexer/pkg/lockfile"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/podns"
)

const aVF = "0000:01:10.0"

// newClaims returns the claims of an empty node, and its directory.
func newClaims(t *testing.T) (Claims, string) {
	t.Helper()
	dir := t.TempDir()
	return NewClaims(filepath.Join(dir, "state"), filepath.Join(dir, "sriov-cni")), dir
}

func make0700(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
}

func write0600(t *testing.T, path, text string) {
	t.Helper()
	make0700(t, filepath.Dir(path))
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func fullRecord() *Record {
	before := Admin{MAC: zeroMAC, Proto: proto8021Q, SpoofChk: on, Trust: off, LinkState: linkAuto}
	after := Admin{MAC: "02:00:00:00:00:01", VLAN: 100, QoS: 3, Proto: proto8021AD, SpoofChk: off, Trust: on, LinkState: linkEnable, MinTxRate: 1, MaxTxRate: 2}
	return &Record{
		Container: "c1", IfName: "net1", Pod: "shop/web-0", Network: "fast",
		Ref: podns.Ref{Path: "/run/netns/a", Cookie: 1 << 60, Boot: "this boot"},
		PCI: aVF, PF: "0000:01:00.0", Index: 3, Picked: true, MAC: "02:00:00:00:00:01", Applied: &after, Set: []Knob{KnobVLAN, KnobTrust},
		Original: Original{Admin: &before, Driver: "igbvf", Netdev: "ens1v0", MAC: "02:00:00:00:00:09", MTU: 1500, AltNames: []string{"enp1s16"}, Up: true},
		Since:    time.Date(2026, 11, 27, 6, 0, 0, 123, time.UTC), Failed: "the driver was busy",
	}
}

// lock takes a lock that is free.
func lock(t *testing.T, c Claims, pci string) (unlock func()) {
	t.Helper()
	unlock, err := c.lock(context.Background(), pci)
	if err != nil {
		t.Fatal(err)
	}
	return unlock
}

// tryLock reports what becomes of a lock that is not waited for.
func tryLock(c Claims, pci string) error {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	unlock, err := c.lock(ended, pci)
	if err == nil {
		unlock()
	}
	return err
}

func TestClaimThereAndBack(t *testing.T) {
	c, _ := newClaims(t)
	if r, err := c.Get(aVF); r != nil || err != nil {
		t.Errorf("before: %v, %v", r, err)
	}
	if all, err := c.All(); all != nil || err != nil {
		t.Errorf("before: %v, %v", all, err)
	}
	if err := c.drop(aVF); err != nil {
		t.Errorf("before: %v", err)
	}
	unlock := lock(t, c, aVF)
	defer unlock()
	for _, r := range []*Record{fullRecord(), {PCI: "0000:01:00.0", Index: -1, Container: "c2", IfName: "net1"}, {PCI: "0000:01:10.1", Container: "c1", IfName: "net2"}} {
		if err := c.put(r); err != nil {
			t.Fatal(err)
		}
		got, err := c.Get(r.PCI)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(r, got); diff != "" {
			t.Errorf("(-put +got):\n%s", diff)
		}
	}
	changed := fullRecord()
	changed.Failed, changed.Original.Admin, changed.Applied = "", nil, nil
	if err := c.put(changed); err != nil {
		t.Fatal(err)
	}
	all, err := c.All()
	if err != nil || len(all) != 3 {
		t.Fatalf("%v, %v", all, err)
	}
	if diff := cmp.Diff(changed, all[1]); all[0].PCI != "0000:01:00.0" || diff != "" {
		t.Errorf("first %s, then (-put +got):\n%s", all[0].PCI, diff)
	}
	for range 2 {
		if err = c.drop(aVF); err != nil {
			t.Error(err)
		}
	}
	if r, getErr := c.Get(aVF); r != nil || getErr != nil {
		t.Errorf("dropped: %v, %v", r, getErr)
	}
	if all, err = c.All(); err != nil || len(all) != 2 {
		t.Errorf("without it: %v, %v", all, err)
	}
}

// Only root reads what is claimed: directories 0700, files 0600, and nothing
// is left of how they were written.
func TestModesOfClaims(t *testing.T) {
	c, dir := newClaims(t)
	make0700(t, c.Foreign)
	r := fullRecord()
	unlock := lock(t, c, aVF)
	for _, err := range []error{c.put(r), c.putForeign(r)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	unlock()
	got := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := entry.Info()
		got[strings.TrimPrefix(path, dir+"/")] = fmt.Sprint(info.Mode())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"state": "drwx------", "state/vf": "drwx------", "state/vf/" + aVF + ".json": "-rw-------", "state/vf/" + aVF + ".lock": "-rw-------",
		"sriov-cni": "drwx------", "sriov-cni/pci": "drwx------", "sriov-cni/pci/" + aVF: "-rw-------",
		"sriov-cni/pci/vf_lock": "drwx------", "sriov-cni/pci/vf_lock/" + aVF + ".lock": "-rw-------",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What a power loss leaves of a claim is none: no VF's state outlives it.
func TestEmptyClaims(t *testing.T) {
	for _, text := range []string{"", "\x00\x00\x00"} {
		c, _ := newClaims(t)
		write0600(t, c.path(aVF), text)
		if r, err := c.Get(aVF); r != nil || err != nil {
			t.Errorf("%q: %v, %v", text, r, err)
		}
		if all, err := c.All(); len(all) > 0 || err != nil {
			t.Errorf("%q: all: %v, %v", text, all, err)
		}
	}
}

func TestDamagedClaims(t *testing.T) {
	for name, text := range map[string]string{
		"a hostile name":     `{"pci":"../../` + aVF + `"}`,
		"of no function":     `{"pci":"` + aVF + `","index":-2}`,
		"broken off":         `{"pci":"` + aVF,
		"of another VF":      `{"pci":"0000:01:10.1"}`,
		"of no VF":           `{}`,
		"null":               `null`,
		"a number as a name": `{"pci":"` + aVF + `","container":5}`,
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := newClaims(t)
			write0600(t, c.path(aVF), text)
			r, err := c.Get(aVF)
			if r != nil || !errors.Is(err, network.IO) {
				t.Fatalf("%v, %v", r, err)
			}
			for _, say := range []string{c.path(aVF), "is damaged", "multiplexerd vfs", "remove the file"} {
				if !strings.Contains(err.Error(), say) {
					t.Errorf("got %v, want %q in it", err, say)
				}
			}
			if err = c.put(&Record{PCI: "0000:01:10.1"}); err != nil {
				t.Fatal(err)
			}
			all, err := c.All()
			if len(all) != 1 || all[0].PCI != "0000:01:10.1" {
				t.Errorf("the others: %v", all)
			}
			if !errors.Is(err, network.IO) || !strings.Contains(err.Error(), c.path(aVF)) {
				t.Errorf("all: %v", err)
			}
			if err = c.drop(aVF); err != nil {
				t.Error(err)
			}
			if all, err = c.All(); len(all) != 1 || err != nil {
				t.Errorf("removed: %v, %v", all, err)
			}
		})
	}
}

// Locks, and what a killed call left of its writing, are no claims.
func TestOtherFilesAmongClaims(t *testing.T) {
	c, _ := newClaims(t)
	lock(t, c, aVF)()
	write0600(t, filepath.Join(c.Dir, aVF+".json.tmp"), `{"pci":"`+aVF)
	write0600(t, filepath.Join(c.Dir, "README"), "hello")
	if all, err := c.All(); all != nil || err != nil {
		t.Errorf("%v, %v", all, err)
	}
	if err := c.put(fullRecord()); err != nil {
		t.Fatal(err)
	}
	if all, err := c.All(); len(all) != 1 || err != nil {
		t.Errorf("%v, %v", all, err)
	}
	if exists(filepath.Join(c.Dir, aVF+".json.tmp")) {
		t.Error("the half of a claim is still there")
	}
}

func TestClaimsWithoutTheirDirectory(t *testing.T) {
	c, dir := newClaims(t)
	write0600(t, filepath.Join(dir, "state", "vf"), "a file")
	_, getErr := c.Get(aVF)
	_, allErr := c.All()
	for what, err := range map[string]error{
		"get": getErr, "all": allErr, "put": c.put(fullRecord()), "drop": c.drop(aVF), "lock": tryLock(c, aVF),
	} {
		if !errors.Is(err, network.IO) || !strings.Contains(err.Error(), c.Dir) || !strings.Contains(err.Error(), "stateDir") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestLockExcludes(t *testing.T) {
	c, dir := newClaims(t)
	unlock := lock(t, c, aVF)
	err := tryLock(c, aVF)
	if !errors.Is(err, network.Again) || !errors.Is(err, lockfile.ErrBusy) || !strings.Contains(err.Error(), aVF) {
		t.Errorf("held: %v", err)
	}
	if err = tryLock(c, "0000:01:10.1"); err != nil {
		t.Errorf("another VF: %v", err)
	}
	waiting := make(chan error, 1)
	go func() {
		later, lockErr := c.lock(context.Background(), aVF)
		if lockErr == nil {
			later()
		}
		waiting <- lockErr
	}()
	select {
	case err = <-waiting:
		t.Errorf("not waited for: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	unlock()
	if err = <-waiting; err != nil {
		t.Errorf("waited for: %v", err)
	}
	if err = tryLock(c, aVF); err != nil {
		t.Errorf("given back: %v", err)
	}
	if exists(filepath.Join(dir, "sriov-cni")) {
		t.Error("sriov-cni is not on this node, and has a directory now")
	}
}

// Where sriov-cni is, its own lock is taken too: by us from it, and by it from us.
func TestLockOfSriovCNI(t *testing.T) {
	c, _ := newClaims(t)
	make0700(t, c.Foreign)
	unlock := lock(t, c, aVF)
	its := filepath.Join(c.Foreign, "pci", "vf_lock", aVF+".lock")
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := lockfile.Open(ended, its); !errors.Is(err, lockfile.ErrBusy) {
		t.Errorf("sriov-cni gets %v", err)
	}
	unlock()
	held, err := lockfile.Open(ended, its)
	if err != nil {
		t.Fatal(err)
	}
	if err = tryLock(c, aVF); !errors.Is(err, network.Again) || !errors.Is(err, lockfile.ErrBusy) {
		t.Errorf("sriov-cni has it: %v", err)
	}
	// Our own part of it was given back.
	if err = tryLock(NewClaims(filepath.Dir(c.Dir), ""), aVF); err != nil {
		t.Errorf("without sriov-cni: %v", err)
	}
	if err = held.Close(); err != nil {
		t.Fatal(err)
	}
	if err = tryLock(c, aVF); err != nil {
		t.Errorf("sriov-cni has ended: %v", err)
	}
	write0600(t, filepath.Join(c.Foreign, "pci2"), "")
	if err = os.RemoveAll(filepath.Join(c.Foreign, "pci")); err != nil {
		t.Fatal(err)
	}
	write0600(t, filepath.Join(c.Foreign, "pci"), "a file")
	if err = tryLock(c, aVF); !errors.Is(err, network.IO) {
		t.Errorf("no place for its lock: %v", err)
	}
}

func TestAllocationsOfSriovCNI(t *testing.T) {
	c, _ := newClaims(t)
	r := fullRecord()
	path := filepath.Join(c.Foreign, "pci", aVF)
	for _, err := range []error{c.putForeign(r), c.dropForeign(r)} {
		if err != nil || exists(c.Foreign) {
			t.Fatalf("without sriov-cni: %v", err)
		}
	}
	make0700(t, c.Foreign)
	if got := c.foreignHolder(aVF); got != "" {
		t.Errorf("held by %q", got)
	}
	if err := c.putForeign(r); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "/run/netns/a" || c.foreignHolder(aVF) != "/run/netns/a" {
		t.Errorf("%q, %v, held by %q", text, err, c.foreignHolder(aVF))
	}
	for range 2 {
		if err := c.dropForeign(r); err != nil || exists(path) {
			t.Errorf("dropped: %v", err)
		}
	}
	if err := c.putForeign(&Record{PCI: "0000:01:00.0", Index: -1, Ref: podns.Ref{Path: "/run/netns/a"}}); err != nil || c.foreignHolder("0000:01:00.0") != "" {
		t.Errorf("a PF, which sriov-cni gives to nobody: %v", err)
	}
}

func TestAdvertised(t *testing.T) {
	for name, c := range map[string]struct {
		text string // "-" = no file
		want map[string]string
		says string
	}{
		"no file":             {text: "-"},
		"none":                {text: `{"pools":{}}`, want: map[string]string{}},
		"an empty pool":       {text: `{"pools":{"intel.com/a":[]}}`, want: map[string]string{}},
		"in capitals":         {text: `{"pools":{"intel.com/A":["0000:AF:10.0"]}}`, want: map[string]string{"0000:af:10.0": "intel.com/A"}},
		"two pools":           {text: `{"pools":{"intel.com/a":["0000:01:10.0","0000:01:10.1"],"intel.com/b":["0000:01:10.2"]},"more":1}`, want: map[string]string{"0000:01:10.0": "intel.com/a", "0000:01:10.1": "intel.com/a", "0000:01:10.2": "intel.com/b"}},
		"empty":               {text: ``, says: "JSON"},
		"broken off":          {text: `{"pools":{"intel.com/a":[`, says: "JSON"},
		"of another shape":    {text: `{"pools":["0000:01:10.0"]}`, says: "pools"},
		"a number for device": {text: `{"pools":{"intel.com/a":[5]}}`, says: "number"},
	} {
		t.Run(name, func(t *testing.T) {
			claims, dir := newClaims(t)
			path := filepath.Join(dir, "state", "pools.json")
			if c.text != "-" {
				write0600(t, path, c.text)
			}
			got, err := claims.Advertised()
			if c.says != "" {
				if !errors.Is(err, network.IO) {
					t.Fatalf("got %v, %v", got, err)
				}
				for _, say := range []string{path, c.says, "device plugin advertises", "anew when the agent starts"} {
					if !strings.Contains(err.Error(), say) {
						t.Errorf("got %v, want %q in it", err, say)
					}
				}
				return
			}
			if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestHolder(t *testing.T) {
	r := Record{Container: "c1", IfName: "net1"}
	if got := r.Holder(); got != "container c1 (net1)" {
		t.Error(got)
	}
	r.Pod = "shop/web-0"
	if got := r.Holder(); got != "pod shop/web-0 (container c1, net1)" {
		t.Error(got)
	}
	if !r.isOf("c1", "net1") || r.isOf("c1", "net2") || r.isOf("c2", "net1") || r.isOf("", "") {
		t.Error("an attachment is a container and an interface")
	}
}

// A claim outlives an allocation of sriov-cni that does not go: the next DEL
// tries again.
func TestReleaseTakesTheAllocationFirst(t *testing.T) {
	c, _ := newClaims(t)
	r := fullRecord()
	r.Path = "" // not known, and so no reason to leave the allocation alone
	path := filepath.Join(c.Foreign, "pci", aVF)
	defer lock(t, c, aVF)()
	make0700(t, path)
	write0600(t, filepath.Join(path, "file"), "in the way")
	if err := c.put(r); err != nil {
		t.Fatal(err)
	}
	err := c.release(r)
	if claim, getErr := c.Get(aVF); !errors.Is(err, network.IO) || getErr != nil || claim == nil {
		t.Errorf("while it cannot go: %v; the claim: %v, %v", err, claim, getErr)
	}
	if err = os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	err = c.release(r)
	if claim, getErr := c.Get(aVF); err != nil || getErr != nil || claim != nil {
		t.Errorf("then: %v; the claim: %v, %v", err, claim, getErr)
	}
}

// What sriov-cni wrote before a VF was made is about another one. A file's time
// is a little behind the clock.
func TestHolderBeforeTheVFWasMade(t *testing.T) {
	c, _ := newClaims(t)
	path, made := filepath.Join(c.Foreign, "pci", aVF), time.Now()
	write0600(t, path, "/run/netns/other")
	for before, held := range map[time.Duration]bool{-time.Second: true, 5 * time.Millisecond: true, time.Second: false} {
		if err := os.Chtimes(path, time.Time{}, made.Add(-before)); err != nil {
			t.Fatal(err)
		}
		if why, err := c.Holder(aVF, Holding{Made: made}); err != nil || (why != "") != held {
			t.Errorf("written %s before: %q, %v", before, why, err)
		}
	}
}
