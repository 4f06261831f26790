package runtimetest

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// linkTime returns when the symbolic link was last followed. The kernel notes
// it the first time after the link was made, also on mounts with relatime.
func linkTime(t *testing.T, path string) time.Time {
	t.Helper()
	var stat unix.Stat_t
	if err := unix.Lstat(path, &stat); err != nil {
		t.Fatal(err)
	}
	return time.Unix(stat.Atim.Unix())
}

// No plugin is looked for that no network names: an executable that happens
// to have the name of an embedded plugin stays untouched.
func TestNoPluginIsLookedForUnasked(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.multiplexer(func(_, plugin object) { plugin["embedded"] = []string{} })
	decoys := nettest.RecorderAs(t, "sriov", "fixipam", "control")
	for _, name := range []string{"sriov", "fixipam", "control"} {
		s.install(filepath.Join(decoys, name))
	}
	// The proof that looking leaves a trace here.
	control := s.path("bin", "control")
	made := linkTime(t, control)
	if _, err := os.Stat(control); err != nil {
		t.Fatal(err)
	}
	traced := linkTime(t, control).After(made)
	if !traced {
		t.Log("this file system does not note when links are followed: execution alone is tested")
	}
	untouched := map[string]time.Time{}
	for _, name := range []string{"sriov", "fixipam"} {
		untouched[name] = linkTime(t, s.path("bin", name))
	}
	radio := s.recorder("192.168.80.0/24", linked())
	radio["type"] = "sriov"
	s.network("1.1.0", "radio", radio)

	s.start(containerd)
	s.status()
	pod, _ := s.newPod("web", "storage", "telemetry")
	s.setup(pod)
	s.check(pod)
	s.remove(pod)
	s.remove(pod)
	s.status()
	runtime := startDriver(t, s.node, DriverConfig{Runtime: crio, ConfDir: s.path("net.d"), BinDir: s.path("bin"), VarLib: s.path("varlib")})
	runtime.must(Call{Verb: "gc", Valid: []Pod{pod}})

	if all, err := nettest.Calls(s.path("rec")); err != nil || len(all) > 0 {
		t.Errorf("decoys were called: %v, %v", all, err)
	}
	for name, at := range untouched {
		if got := linkTime(t, s.path("bin", name)); got != at {
			t.Errorf("%s was looked up at %s, and no network names it", name, got)
		}
	}

	// The other way round, so that the above means something.
	asking, _ := s.newPod("asks", "radio")
	s.setup(asking)
	s.check(asking)
	s.remove(asking)
	for _, verb := range []string{"ADD", "CHECK", "DEL"} {
		if got := s.calls(verb, "radio"); len(got) != 1 || got[0].IfName != "net1" {
			t.Errorf("%s of the network that names sriov: got %v, want one call for net1", verb, got)
		}
	}
	if traced && !linkTime(t, s.path("bin", "sriov")).After(untouched["sriov"]) {
		t.Error("sriov ran, and its link shows no trace")
	}
}

// kubelet and containerd call Remove until it succeeds, and then again when
// the sandbox goes.
func TestRemoveIsRetriedUntilItSucceeds(t *testing.T) {
	t.Parallel()
	for _, runtime := range []string{containerd, crio} {
		t.Run(runtime, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			steps := linked()
			const failures = 4
			var del []object
			for range failures {
				del = append(del, object{"failOnce": object{"code": 11, "msg": "fabric manager is busy"}})
			}
			steps["DEL"] = append(del, object{"unlink": true}, object{"free": true})
			s.network("1.1.0", "fabric", s.recorder("192.168.80.0/24", steps))
			s.start(runtime)
			pod, _ := s.newPod("web", "storage", "fabric", "telemetry")
			s.setup(pod)
			tries := 0
			for ; tries < 20; tries++ {
				if _, err := s.do(Call{Verb: "remove", Pod: pod}); err == nil {
					break
				}
			}
			if tries != failures {
				t.Errorf("Remove failed %d times, want %d: every failure told, and each call a try", tries, failures)
			}
			if got := s.calls("DEL", "fabric"); len(got) != failures+1 {
				t.Errorf("the delegate got %d DELs, want %d", len(got), failures+1)
			}
			for range 3 {
				s.remove(pod)
			}
			want(t, "leases", s.leases(pod), nil)
			want(t, "files in stateDir", s.journals(), nil)
		})
	}
}
