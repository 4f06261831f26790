package killtest

import (
	"net/netip"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
)

// peers are the pods with two networks that are there to answer others.
var peers register

type register struct {
	mu    sync.Mutex
	names []string
}

func (r *register) add(pod *corev1.Pod) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.names = append(r.names, pod.Name)
}

func (r *register) remove(pod *corev1.Pod) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.names = slices.DeleteFunc(r.names, func(name string) bool { return name == pod.Name })
}

// of returns the addresses of another pod as they are now, nil if there is none.
func (r *register) of(pod *corev1.Pod) (map[string][]netip.Addr, error) {
	r.mu.Lock()
	at := slices.IndexFunc(r.names, func(name string) bool { return name != pod.Name })
	name := ""
	if at >= 0 {
		name = r.names[at]
	}
	r.mu.Unlock()
	if name == "" {
		return nil, nil
	}
	peer, err := cluster.GetPod(pod.Namespace, name)
	if err != nil {
		return nil, err
	}
	return nics(peer)
}
