package runtimetest

import (
	"os"
	"testing"
)

// olderPod sets a pod up before multiplexer is in the node's CNI slot, puts
// it there under `name`, and starts the runtime anew. Name "" stands for the
// example's.
func (s *site) olderPod(runtime, name string) Pod {
	s.Helper()
	if err := os.Remove(s.path("net.d", "00-multiplexer.conflist")); err != nil {
		s.Fatal(err)
	}
	s.start(runtime)
	pod, _ := s.newPod("older")
	pod.Ports = hostPort()
	s.setup(pod)
	s.multiplexer(func(list, plugin object) {
		if runtime == crio {
			plugin["runtime"] = "cri-o"
		}
		if name != "" {
			list["name"] = name
		}
	})
	s.start(runtime)
	return pod
}

func TestPodFromBeforeTheInstallationIsRemoved(t *testing.T) {
	t.Parallel()
	for _, runtime := range []string{containerd, crio} {
		for _, gone := range []bool{false, true} {
			name := runtime
			if gone {
				name += " without namespace"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := newSite(t)
				pod := s.olderPod(runtime, "")
				want(t, "leases", s.leases(pod), []string{"cluster/10.244.7.2"})
				if gone {
					pod.Netns = ""
				}
				s.remove(pod)
				s.remove(pod)
				want(t, "leases after Remove", s.leases(pod), nil)
				want(t, "files in stateDir", s.journals(), nil)
			})
		}
	}
}

// CRI-O collects garbage when it starts. Pods that were started on the
// cluster network by its own name, before the installation, must survive
// that: ocicni lists every pod under the default network's name.
func TestCRIOGarbageCollectionSparesPodsFromBeforeTheInstallation(t *testing.T) {
	t.Parallel()
	for title, name := range map[string]string{"named as the example": "", "named as the cluster network": "cluster"} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			older := s.olderPod(crio, name)
			newer, _ := s.newPod("newer", "storage")
			s.setup(newer)
			leases := s.leases(newer)
			s.must(Call{Verb: "gc", Valid: []Pod{older, newer}})
			want(t, "leases of the older pod, which runs", s.leases(older), []string{"cluster/10.244.7.2"})
			want(t, "leases of the newer pod", s.leases(newer), leases)
			s.check(newer)
			s.remove(newer)
			s.remove(older)
			want(t, "leases after TearDownPod", append(s.leases(older), s.leases(newer)...), nil)
		})
	}
}
