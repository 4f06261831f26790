package kubelettest

import "slices"

// Device is one device of a container.
type Device struct {
	Resource string
	ID       string
	NUMA     []int64 // its nodes; kubelet tells the device once for each
}

// Container is a container of a pod, with its devices in any order.
type Container struct {
	Name    string
	Devices []Device
}

type pod struct {
	namespace, name string
	containers      []Container
	nameless        bool // Get does not find it
	earlier         bool // another pod has its name now
}

func (p *pod) is(namespace, name string) bool { return p.namespace == namespace && p.name == name }

// SetPod adds a pod or replaces it.
func (k *Kubelet) SetPod(namespace, name string, containers ...Container) {
	k.RemovePod(namespace, name)
	k.add(&pod{namespace: namespace, name: name, containers: containers})
}

// SetEarlierPod adds a pod that has not ended, while there is or will be one
// of the same name: List tells both.
func (k *Kubelet) SetEarlierPod(namespace, name string, containers ...Container) {
	k.add(&pod{namespace: namespace, name: name, containers: containers, earlier: true})
}

func (k *Kubelet) add(p *pod) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.pods = append(k.pods, p)
}

// RemovePod removes a pod, if it is there.
func (k *Kubelet) RemovePod(namespace, name string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.pods = slices.DeleteFunc(k.pods, func(p *pod) bool { return p.is(namespace, name) && !p.earlier })
}

// RemoveEarlierPod removes what SetEarlierPod added, and does to a pod of the
// same name what the real kubelet does: its name is forgotten, so that List
// tells it and Get does not find it.
func (k *Kubelet) RemoveEarlierPod(namespace, name string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.pods = slices.DeleteFunc(k.pods, func(p *pod) bool { return p.is(namespace, name) && p.earlier })
	for _, p := range k.pods {
		p.nameless = p.nameless || p.is(namespace, name)
	}
}

// SetPadding makes the answers of List larger by about that many bytes, as
// the pods of a large node do.
func (k *Kubelet) SetPadding(bytes int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.padding = bytes
}

// SetAdvertised says what the node's device plugins advertise.
func (k *Kubelet) SetAdvertised(devices ...Device) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.offered = devices
}
