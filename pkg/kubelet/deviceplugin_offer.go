package kubelet

import (
	"cmp"
	"slices"

	"google.golang.org/protobuf/proto"
	deviceplugin "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// Offer replaces the list of devices. It may be called before Run and while
// it runs; kubelet is told only what differs. Before the first call kubelet
// is told nothing: an empty list would make it forget the devices of pods.
// Of devices with one ID the first counts.
func (p *DevicePlugin) Offer(devices []*deviceplugin.Device) {
	list := make([]*deviceplugin.Device, 0, len(devices))
	for _, d := range devices {
		list = append(list, proto.CloneOf(d))
	}
	slices.SortStableFunc(list, func(a, b *deviceplugin.Device) int { return cmp.Compare(a.GetID(), b.GetID()) })
	list = slices.CompactFunc(list, func(a, b *deviceplugin.Device) bool { return a.GetID() == b.GetID() })
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.offered && sameDevices(p.list, list) {
		return
	}
	p.offered, p.list = true, list
	if p.changed != nil {
		close(p.changed)
		p.changed = nil
	}
}

// offer returns the list, whether there is one, and what is closed when the
// next replaces it.
func (p *DevicePlugin) offer() (list []*deviceplugin.Device, offered bool, changed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.changed == nil {
		p.changed = make(chan struct{})
	}
	return p.list, p.offered, p.changed
}

func sameDevices(a, b []*deviceplugin.Device) bool {
	return slices.EqualFunc(a, b, func(x, y *deviceplugin.Device) bool { return proto.Equal(x, y) })
}
