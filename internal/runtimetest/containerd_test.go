package runtimetest

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestContainerdLife(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.start(containerd)
	before := s.settled("storage", "telemetry")
	s.status()

	pod, ns := s.newPod("web", "storage", "telemetry")
	pod.Ports = hostPort()
	reply := s.setup(pod)
	want(t, "pod IPs", reply.IPs, []string{"10.244.7.3"})
	want(t, "IPs of net1", reply.Interfaces["net1"].IPs, []string{"192.168.50.3"})
	want(t, "IPs of net2", reply.Interfaces["net2"].IPs, []string{"192.168.60.3"})
	for _, name := range []string{"eth0", "net1", "net2"} {
		if got := reply.Interfaces[name].Sandbox; got != pod.Netns {
			t.Errorf("sandbox of %s: got %q, want %q", name, got, pod.Netns)
		}
	}
	want(t, "interfaces in the pod", s.interfaces(ns), []string{"eth0", "net1", "net2"})
	if rules, err := s.node.Output("nft", "list", "ruleset"); err != nil || !strings.Contains(string(rules), "8080") {
		t.Errorf("the port mapping did not arrive at the cluster network: %v\n%s", err, rules)
	}
	s.check(pod)
	s.status()

	s.remove(pod)
	want(t, "interfaces after Remove", s.interfaces(ns), nil)
	s.remove(pod)
	s.same(before)
}

func TestContainerdCheckSeesDamage(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.start(containerd)
	pod, ns := s.newPod("web", "storage", "telemetry")
	s.setup(pod)
	s.check(pod)
	handle, err := ns.Handle()
	if err != nil {
		t.Fatal(err)
	}
	link, err := handle.LinkByName("net2")
	if err != nil {
		t.Fatal(err)
	}
	if err = handle.LinkDel(link); err != nil {
		t.Fatal(err)
	}
	if f := s.fails(Call{Verb: "check", Pod: pod}); !strings.Contains(f.Msg, "net2") {
		t.Errorf("CHECK does not name what is missing: %s", f.Msg)
	}
	s.remove(pod)
}

func TestContainerdPlainPod(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.start(containerd)
	before := s.settled()
	pod, ns := s.newPod("plain")
	pod.Annotations = nil
	reply := s.setup(pod)
	want(t, "pod IPs", reply.IPs, []string{"10.244.7.3"})
	want(t, "interfaces in the pod", s.interfaces(ns), []string{"eth0"})
	s.check(pod)
	s.remove(pod)
	s.same(before)
}

func TestContainerdDualStack(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	dual := s.bridge("cluster0", "10.244.7.0/24", "fd00:10:244:7::/64")
	dual["enabledad"] = false
	s.cluster("1.0.0", dual)
	s.network("1.0.0", "six", s.secondary("six0", "fd00:50::/64", "192.168.70.0/24"))
	s.start(containerd)
	before := s.settled("six", "storage")
	pod, _ := s.newPod("web", "six", "storage")
	reply := s.setup(pod)
	want(t, "pod IPs", reply.IPs, []string{"10.244.7.3", "fd00:10:244:7::3"})
	want(t, "IPs of net1", reply.Interfaces["net1"].IPs, []string{"fd00:50::3", "192.168.70.3"})
	s.check(pod)
	s.remove(pod)
	s.same(before)
}

// containerd keys interfaces by name alone, host side and pod side alike.
func TestContainerdHostInterfaceNamedEth0(t *testing.T) {
	t.Parallel()
	for name, result := range map[string]func(netns string) object{
		"host side first": func(netns string) object {
			return object{
				"interfaces": []object{{"name": "eth0"}, {"name": "net1", "sandbox": netns}},
				"ips":        []object{{"interface": 1, "address": "192.168.80.9/24"}},
			}
		},
		"host side last": func(netns string) object {
			return object{
				"interfaces": []object{{"name": "net1", "sandbox": netns}, {"name": "eth0", "mac": "02:00:00:00:00:01"}},
				"ips":        []object{{"interface": 0, "address": "192.168.80.9/24"}},
			}
		},
		"host side has an address": func(netns string) object {
			return object{
				"interfaces": []object{{"name": "eth0"}, {"name": "net1", "sandbox": netns}},
				"ips":        []object{{"interface": 0, "address": "192.168.80.1/24"}, {"interface": 1, "address": "192.168.80.9/24"}},
			}
		},
		"addresses without index": func(netns string) object {
			return object{
				"interfaces": []object{{"name": "eth0"}, {"name": "net1", "sandbox": netns}},
				"ips":        []object{{"address": "192.168.80.9/24"}},
			}
		},
		"no interfaces at all": func(string) object {
			return object{"ips": []object{{"address": "192.168.80.9/24"}}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			pod, _ := s.newPod("web", "odd", "telemetry")
			printed := result(pod.Netns)
			printed["cniVersion"] = "1.0.0"
			s.network("1.0.0", "odd", s.recorder("192.168.80.0/24", object{"ADD": []object{{"result": printed}}}))
			s.start(containerd)
			reply := s.setup(pod)
			want(t, "pod IPs", reply.IPs, []string{"10.244.7.2"})
			if got := reply.Interfaces["eth0"]; got.Sandbox != pod.Netns || got.Mac == "02:00:00:00:00:01" {
				t.Errorf("eth0 is %+v, which is not the pod's", got)
			}
			want(t, "IPs of net1", reply.Interfaces["net1"].IPs, []string{"192.168.80.9"})
			want(t, "IPs of net2", reply.Interfaces["net2"].IPs, []string{"192.168.60.2"})
			s.remove(pod)
		})
	}
}

func TestContainerdStatus(t *testing.T) {
	t.Parallel()
	for code, msg := range map[uint]string{50: "no controller yet", 51: "link lost"} {
		s := newSite(t)
		failing := s.recorder("10.244.7.0/24", object{"STATUS": []object{{"error": object{"code": code, "msg": msg}}}})
		s.cluster("1.1.0", failing)
		s.start(containerd)
		if f := s.fails(Call{Verb: "status"}); f.Code != code || !strings.Contains(f.Msg, msg) {
			t.Errorf("STATUS: got code %d, %q; want code %d with %q", f.Code, f.Msg, code, msg)
		}
		// A secondary network's trouble is not the node's.
		s.cluster("1.1.0", s.recorder("10.244.7.0/24", nil))
		s.network("1.1.0", "sick", failing)
		pod, _ := s.newPod("web", "sick")
		s.setup(pod)
		s.status()
		s.remove(pod)
		if len(s.calls("STATUS", "cluster")) == 0 || len(s.calls("STATUS", "sick")) != 0 {
			t.Errorf("STATUS must reach the cluster network, and it alone")
		}
	}
}

func TestContainerdRemoveWithoutNamespace(t *testing.T) {
	t.Parallel()
	for _, gone := range []string{"deleted", "deleted and unnamed", "unnamed", "another at the same path"} {
		t.Run(gone, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.network("1.1.0", "rec", s.recorder("192.168.80.0/24", linked()))
			s.start(containerd)
			before := s.settled("storage", "rec")
			pod, ns := s.newPod("web", "storage", "rec")
			pod.Ports = hostPort()
			s.setup(pod)
			if got := s.leases(pod); len(got) != 3 {
				t.Fatalf("leases before Remove: %v", got)
			}
			var err error
			switch gone {
			case "deleted", "deleted and unnamed":
				err = ns.Close()
			case "another at the same path":
				err = ns.Replace()
			}
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasSuffix(gone, "unnamed") {
				pod.Netns = ""
			}
			s.remove(pod)
			want(t, "leases after Remove", s.leases(pod), nil)
			s.remove(pod)
			for _, call := range s.calls("DEL", "rec") {
				if gone == "another at the same path" && call.ContainerID == pod.ID && call.Netns != "" {
					t.Errorf("DEL was given %s, which is another's by now", call.Netns)
				}
			}
			if err = ns.Close(); err != nil {
				t.Fatal(err)
			}
			s.same(before)
		})
	}
}

// go-cni takes errors that contain "not found" for success, and with an empty
// path "no such file or directory" too.
func TestContainerdSwallowsNoFailedRemove(t *testing.T) {
	t.Parallel()
	failure := func(msg, details string) object {
		return object{"failOnce": object{"code": 7, "msg": msg, "details": details}}
	}
	steps := func() object {
		s := linked()
		s["DEL"] = []object{
			failure("lease not found: no such file or directory", ""),
			failure("cannot release", "address not found in allocator: no such file or directory"),
			failure("Link not found", ""),
			{"unlink": true}, {"free": true},
		}
		return s
	}
	for _, where := range []string{"secondary", "cluster"} {
		for _, unnamed := range []bool{false, true} {
			name := where
			if unnamed {
				name += " without namespace"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := newSite(t)
				networks := []string{"storage", "telemetry"}
				if where == "cluster" {
					s.cluster("1.0.0", s.recorder("10.244.7.0/24", steps()))
				} else {
					s.network("1.0.0", "flaky", s.recorder("192.168.80.0/24", steps()))
					networks = append(networks, "flaky")
				}
				s.start(containerd)
				pod, ns := s.newPod("web", networks...)
				s.setup(pod)
				if unnamed {
					if err := ns.Close(); err != nil {
						t.Fatal(err)
					}
					pod.Netns = ""
				}
				for try := 1; try <= 3; try++ {
					f := s.fails(Call{Verb: "remove", Pod: pod})
					t.Logf("try %d: %s", try, f.Msg)
					if f.Code != 7 {
						t.Errorf("try %d: the delegate's code became %d", try, f.Code)
					}
					if got := s.leases(pod); len(got) != 1 {
						t.Errorf("leases after try %d: got %v, want the failing network's alone", try, got)
					}
				}
				s.remove(pod)
				want(t, "leases after the delegate recovered", s.leases(pod), nil)
				want(t, "files in stateDir", s.journals(), nil)
				s.remove(pod)
			})
		}
	}
}

// containerd kills the plugin at its deadline, and removes the pod afterwards.
func TestContainerdKillsASlowSetup(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	slow := linked()
	slow["ADD"] = []object{{"allocate": true}, {"link": true}, {"touch": "attached"}, {"waitFor": "go"}}
	s.start(containerd)
	before := s.settled("storage")
	s.network("1.0.0", "slow", s.recorder("192.168.80.0/24", slow))
	pod, ns := s.newPod("web", "storage", "slow")
	f := s.fails(Call{Verb: "setup", Pod: pod, Until: s.path("rec", "attached")})
	t.Logf("setup: %s", f.Msg)
	// The slow network's plugin outlives the kill, and Remove waits for it.
	end := time.AfterFunc(time.Second, func() { _ = os.WriteFile(s.path("rec", "go"), nil, 0o600) }) // without it, Remove kills the plugin
	defer end.Stop()
	s.remove(pod)
	want(t, "interfaces after Remove", s.interfaces(ns), nil)
	want(t, "leases after Remove", s.leases(pod), nil)
	s.same(before)
}

// containerd tries a sandbox again under another ID, but a second ADD of the
// same one must not fail either.
func TestContainerdSetupTwice(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.start(containerd)
	before := s.settled("storage", "telemetry")
	pod, ns := s.newPod("web", "storage", "telemetry")
	s.setup(pod)
	s.setup(pod)
	s.check(pod)
	want(t, "interfaces in the pod", s.interfaces(ns), []string{"eth0", "net1", "net2"})
	if got := s.leases(pod); len(got) != 3 {
		t.Errorf("leases: got %v, want one of each network", got)
	}
	s.remove(pod)
	s.same(before)
}

// What fails at Setup leaves nothing, also when the runtime never calls Remove.
func TestContainerdFailedSetup(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.network("1.0.0", "full", s.recorder("192.168.80.0/24", object{
		"ADD": []object{{"allocate": true}, {"error": object{"code": 122, "msg": "pool is full"}}},
	}))
	s.start(containerd)
	before := s.settled("storage")
	pod, ns := s.newPod("web", "storage", "full")
	if f := s.fails(Call{Verb: "setup", Pod: pod}); f.Code != 122 || !strings.Contains(f.Msg, "pool is full") {
		t.Errorf("setup: got code %d, %q; want the delegate's own", f.Code, f.Msg)
	}
	want(t, "interfaces after the failure", s.interfaces(ns), nil)
	want(t, "leases after the failure", s.leases(pod), nil)
	pod.Annotations["k8s.v1.cni.cncf.io/networks"] = "storage,nowhere"
	if f := s.fails(Call{Verb: "setup", Pod: pod}); f.Code != 7 || !strings.Contains(f.Msg, "nowhere") {
		t.Errorf("setup with an unknown network: got code %d, %q", f.Code, f.Msg)
	}
	s.remove(pod)
	s.same(before)
}

// Only the cluster network gets the runtime's capabilities (NPWG 7.5).
func TestContainerdCapabilitiesReachTheClusterNetworkOnly(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	all := object{"portMappings": true, podAnnotations: true}
	cluster, secondary := s.recorder("10.244.7.0/24", nil), s.recorder("192.168.80.0/24", nil)
	cluster["capabilities"], secondary["capabilities"] = all, all
	s.cluster("1.0.0", cluster)
	s.network("1.0.0", "rec", secondary)
	s.start(containerd)
	pod, _ := s.newPod("web", "rec")
	pod.Ports = hostPort()
	s.setup(pod)
	s.remove(pod)
	for _, verb := range []string{"ADD", "DEL"} {
		to := s.calls(verb, "cluster")
		if len(to) != 1 || !strings.Contains(to[0].Stdin, "8080") || !strings.Contains(to[0].Stdin, "example.com/note") {
			t.Errorf("%s of the cluster network lacks the runtime's capabilities: %v", verb, to)
		}
		to = s.calls(verb, "rec")
		if len(to) != 1 || strings.Contains(to[0].Stdin, "8080") {
			t.Errorf("%s of the secondary network has the runtime's capabilities: %v", verb, to)
		}
		if len(to) == 1 && !slices.Contains(strings.Split(to[0].Args, ";"), "K8S_POD_UID="+pod.UID) {
			t.Errorf("%s of the secondary network: CNI_ARGS %q lack the pod", verb, to[0].Args)
		}
	}
}
