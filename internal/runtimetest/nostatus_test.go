package runtimetest

import (
	"os"
	"strings"
	"testing"
)

// A runtime that calls no STATUS, as containerd before 2.0, goes by the conf
// alone: a node that has one is ready. What STATUS would have said, ADD says.
func TestContainerdWithoutStatus(t *testing.T) {
	t.Parallel()
	for _, calls := range []bool{false, true} {
		s := newSite(t)
		failing := s.recorder("10.244.7.0/24", object{"STATUS": []object{{"error": object{"code": 50, "msg": "no controller yet"}}}})
		s.cluster("1.1.0", failing)
		cluster, aside := s.path("net.d", "10-cluster.conflist"), s.path("aside")
		move := func(from, to string) {
			t.Helper()
			if err := os.Rename(from, to); err != nil {
				t.Fatal(err)
			}
		}
		s.multiplexer(func(list, _ object) {
			if !calls {
				list["cniVersion"] = "1.0.0"
				delete(list, "cniVersions")
			}
		})

		s.start(containerd)
		ready := func(why string) {
			t.Helper()
			if !calls {
				s.status()
			} else if f := s.fails(Call{Verb: "status"}); f.Code != 50 {
				t.Errorf("%s: STATUS: code %d, %s", why, f.Code, f.Msg)
			}
		}
		ready("the cluster network is not ready")
		if got := len(s.calls("STATUS", "cluster")) > 0; got != calls {
			t.Errorf("STATUS reached the cluster network: %v, want %v", got, calls)
		}

		// The cluster network goes, and the conf stays: pods wait.
		move(cluster, aside)
		ready("there is no cluster network")
		pod, ns := s.newPod("web", "storage")
		if f := s.fails(Call{Verb: "setup", Pod: pod}); f.Code != 11 || !strings.Contains(f.Msg, "10-cluster.conflist") {
			t.Errorf("a pod without a cluster network: code %d, %s", f.Code, f.Msg)
		}
		want(t, "interfaces in the pod", s.interfaces(ns), nil)
		move(aside, cluster)
		s.setup(pod)
		s.remove(pod)
	}
}
