package runtimetest

import (
	"encoding/json"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
)

// crioSite is a node that is configured for CRI-O.
func crioSite(t *testing.T) *site {
	t.Helper()
	s := newSite(t)
	s.multiplexer(func(_, plugin object) { plugin["runtime"] = "cri-o" })
	return s
}

// kubeletIPs is what kubelet makes of a runtime's list: the first address of
// each family (sortPodIPs in pkg/kubelet/kubelet_pods.go).
func kubeletIPs(ips []string) []string {
	var out []string
	seen := map[bool]bool{}
	for _, ip := range ips {
		if six := net.ParseIP(ip).To4() == nil; !seen[six] {
			seen[six] = true
			out = append(out, ip)
		}
	}
	return out
}

func TestCRIOLife(t *testing.T) {
	t.Parallel()
	s := crioSite(t)
	s.start(crio)
	before := s.settled("storage", "telemetry")
	s.status()
	pod, ns := s.newPod("web", "storage", "telemetry")
	reply := s.setup(pod) // with CHECK right behind it
	want(t, "addresses as CRI-O reports them", reply.IPs, []string{"10.244.7.3", "192.168.50.3", "192.168.60.3"})
	want(t, "addresses as kubelet takes them", kubeletIPs(reply.IPs), []string{"10.244.7.3"})
	var names []string
	for _, i := range s.result(reply).Interfaces {
		if i.Sandbox != "" {
			names = append(names, i.Name)
		}
	}
	want(t, "interfaces in the result", names, []string{"eth0", "net1", "net2"})
	s.check(pod)
	s.status()
	s.remove(pod)
	want(t, "interfaces after TearDownPod", s.interfaces(ns), nil)
	s.remove(pod)
	s.same(before)
}

func TestCRIOPodIPsAreTheClusterNetworks(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		cluster, secondary, wanted []string
	}{
		"IPv4 cluster, IPv6 secondary": {
			[]string{"10.244.7.0/24"}, []string{"fd00:50::/64"}, []string{"10.244.7.2"},
		},
		"IPv4 cluster, dual-stack secondary": {
			[]string{"10.244.7.0/24"}, []string{"fd00:50::/64", "192.168.70.0/24"}, []string{"10.244.7.2"},
		},
		"IPv6 cluster, IPv4 secondary": {
			[]string{"fd00:10:244:7::/64"}, []string{"192.168.70.0/24"}, []string{"fd00:10:244:7::2"},
		},
		"both dual-stack": {
			[]string{"10.244.7.0/24", "fd00:10:244:7::/64"}, []string{"fd00:50::/64", "192.168.70.0/24"},
			[]string{"10.244.7.2", "fd00:10:244:7::2"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := crioSite(t)
			s.cluster("1.0.0", s.bridge("cluster0", test.cluster...))
			s.network("1.0.0", "more", s.secondary("more0", test.secondary...))
			s.start(crio)
			pod, ns := s.newPod("web", "more")
			want(t, "addresses as kubelet takes them", kubeletIPs(s.setup(pod).IPs), test.wanted)
			want(t, "interfaces in the pod", s.interfaces(ns), []string{"eth0", "net1"})
			s.remove(pod)
			want(t, "leases after TearDownPod", s.leases(pod), nil)
		})
	}
}

func TestCRIOStatus(t *testing.T) {
	t.Parallel()
	s := crioSite(t)
	s.cluster("1.1.0", s.recorder("10.244.7.0/24", object{"STATUS": []object{{"error": object{"code": 50, "msg": "no controller yet"}}}}))
	s.start(crio)
	if f := s.fails(Call{Verb: "status"}); f.Code != 50 || !strings.Contains(f.Msg, "no controller yet") {
		t.Errorf("STATUS: got code %d, %q; want code 50", f.Code, f.Msg)
	}
}

// gcSite has two pods on bridges at 1.0.0 and on a recorder network at 1.1.0.
// The cluster's own file is not in the directory that CRI-O reads.
func gcSite(t *testing.T) *site {
	t.Helper()
	s := crioSite(t)
	if err := os.Mkdir(s.path("cluster.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(s.path("net.d", "10-cluster.conflist"), s.path("cluster.d", "10-cluster.conflist")); err != nil {
		t.Fatal(err)
	}
	s.multiplexer(func(_, plugin object) {
		plugin["runtime"] = "cri-o"
		plugin["clusterNetwork"] = s.path("cluster.d", "10-cluster.conflist")
	})
	s.network("1.1.0", "rec", s.recorder("192.168.80.0/24", linked()))
	s.start(crio)
	return s
}

func (s *site) forgetCache() {
	s.Helper()
	if err := os.RemoveAll(s.path("varlib", "cni", "results")); err != nil {
		s.Fatal(err)
	}
}

// lastValid returns the list that the network's last GC had, and its JSON.
func (s *site) lastValid(network string) ([]types.GCAttachment, string) {
	s.Helper()
	calls := s.calls("GC", network)
	if len(calls) == 0 {
		s.Fatalf("GC did not reach network %s", network)
	}
	var conf struct {
		Valid json.RawMessage `json:"cni.dev/valid-attachments"`
	}
	if err := json.Unmarshal([]byte(calls[len(calls)-1].Stdin), &conf); err != nil {
		s.Fatal(err)
	}
	var valid []types.GCAttachment
	if err := json.Unmarshal(conf.Valid, &valid); err != nil {
		s.Fatalf("cni.dev/valid-attachments %q: %v", conf.Valid, err)
	}
	return valid, string(conf.Valid)
}

// With its cache, the runtime itself calls DEL for what it does not list; GC
// comes behind it. Without, GC is all there is.
func TestCRIOGarbageCollection(t *testing.T) {
	t.Parallel()
	for name, forget := range map[string]bool{"with the runtime's cache": false, "without": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := gcSite(t)
			gone, goneNS := s.newPod("gone", "storage", "rec", "telemetry")
			kept, keptNS := s.newPod("kept", "storage", "rec", "telemetry")
			s.setup(gone)
			s.setup(kept)
			keptLeases := s.leases(kept)
			if len(keptLeases) != 4 || len(s.leases(gone)) != 4 {
				t.Fatalf("leases before GC: %v and %v", keptLeases, s.leases(gone))
			}
			if err := goneNS.Close(); err != nil {
				t.Fatal(err)
			}
			if forget {
				s.forgetCache()
			}
			s.must(Call{Verb: "gc", Valid: []Pod{kept}})
			want(t, "leases of the pod that is gone", s.leases(gone), nil)
			want(t, "leases of the other", s.leases(kept), keptLeases)
			want(t, "interfaces of the other", s.interfaces(keptNS), []string{"eth0", "net1", "net2", "net3"})
			valid, _ := s.lastValid("rec")
			want(t, "cni.dev/valid-attachments", valid, []types.GCAttachment{{ContainerID: kept.ID, IfName: "net2"}})
			if !forget {
				s.check(kept)
			}
			s.must(Call{Verb: "gc", Valid: []Pod{kept}}) // again, with nothing to do
			want(t, "leases of the other", s.leases(kept), keptLeases)
			s.remove(kept)
			want(t, "leases after TearDownPod", s.leases(kept), nil)
		})
	}
}

// A pod that the runtime does not list is collected also when its namespace
// still stands.
func TestCRIOGarbageCollectionWithNamespace(t *testing.T) {
	t.Parallel()
	s := gcSite(t)
	gone, ns := s.newPod("gone", "storage", "rec")
	kept, _ := s.newPod("kept", "storage", "rec")
	s.setup(gone)
	s.setup(kept)
	s.forgetCache()
	s.must(Call{Verb: "gc", Valid: []Pod{kept}})
	want(t, "leases of the pod that is gone", s.leases(gone), nil)
	want(t, "interfaces of the pod that is gone", s.interfaces(ns), nil)
	s.remove(kept)
}

// On a node without pods ocicni's list is nil, which it sends as null.
func TestCRIOGarbageCollectionOfTheLastPod(t *testing.T) {
	t.Parallel()
	for name, forget := range map[string]bool{"with the runtime's cache": false, "without": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := gcSite(t)
			before := s.settled("storage", "rec")
			gone, ns := s.newPod("gone", "storage", "rec")
			s.setup(gone)
			if err := ns.Close(); err != nil {
				t.Fatal(err)
			}
			if forget {
				s.forgetCache()
			}
			if _, err := s.do(Call{Verb: "gc"}); err != nil {
				t.Errorf("GC on a node without pods: %v", err)
			}
			want(t, "leases", s.leases(gone), nil)
			if forget {
				s.same(before)
			}
		})
	}
}

// What delegates get is a list, never null.
func TestCRIOGarbageCollectionSendsLists(t *testing.T) {
	t.Parallel()
	s := gcSite(t)
	gone, _ := s.newPod("gone", "rec")
	kept, _ := s.newPod("kept", "storage")
	s.setup(gone)
	s.setup(kept)
	s.forgetCache()
	s.must(Call{Verb: "gc", Valid: []Pod{kept}})
	want(t, "leases of the pod that is gone", s.leases(gone), nil)
	if valid, raw := s.lastValid("rec"); len(valid) != 0 || raw != "[]" {
		t.Errorf("cni.dev/valid-attachments: got %s, want []", raw)
	}
	s.remove(kept)
}

// CRI-O sends GC to every network in its directory, not to its default alone:
// to the cluster's own with an empty list, since no pod is on it by that name.
// Only a network of the same name, which it then ignores, is spared.
func TestCRIOGarbageCollectionOfTheClusterNetworkItself(t *testing.T) {
	t.Parallel()
	for title, name := range map[string]string{"named as the example": "", "named as the cluster network": "cluster"} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.multiplexer(func(list, plugin object) {
				plugin["runtime"] = "cri-o"
				if name != "" {
					list["name"] = name
				}
			})
			s.cluster("1.1.0", s.recorder("10.244.7.0/24", linked()))
			s.start(crio)
			kept, ns := s.newPod("kept", "storage")
			s.setup(kept)
			leases := s.leases(kept)
			s.must(Call{Verb: "gc", Valid: []Pod{kept}})
			want(t, "leases of a pod that runs", s.leases(kept), leases)
			want(t, "interfaces of a pod that runs", s.interfaces(ns), []string{"eth0", "net1"})
			s.remove(kept)
		})
	}
}

// A delegate that fails is reported, and keeps nothing else from being
// collected; it is tried again.
func TestCRIOGarbageCollectionFails(t *testing.T) {
	t.Parallel()
	s := gcSite(t)
	steps := linked()
	steps["DEL"] = []object{{"failOnce": object{"code": 11, "msg": "busy"}}, {"unlink": true}, {"free": true}}
	s.network("1.0.0", "flaky", s.recorder("192.168.90.0/24", steps))
	gone, _ := s.newPod("gone", "storage", "flaky", "telemetry")
	s.setup(gone)
	kept, _ := s.newPod("kept", "storage")
	s.setup(kept)
	s.forgetCache()
	if f := s.fails(Call{Verb: "gc", Valid: []Pod{kept}}); !strings.Contains(f.Msg, "busy") {
		t.Errorf("GC does not report the failure: %s", f.Msg)
	}
	want(t, "leases after the failure", s.leases(gone), []string{"flaky/ID-net2"})
	s.must(Call{Verb: "gc", Valid: []Pod{kept}})
	want(t, "leases after the next GC", s.leases(gone), nil)
	s.remove(kept)
}
