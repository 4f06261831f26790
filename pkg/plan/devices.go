package plan

import (
	"fmt"
	"strings"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// Device is one device that kubelet gave to a container of the pod.
type Device struct{ Container, Resource, ID string }

// identity is what no two devices of a node have in common: a PCI address,
// whatever the resource; other IDs are a resource's own.
func (d Device) identity() string {
	if pciAddress(d.ID) {
		return d.ID
	}
	return d.Resource + "/" + d.ID
}

// pciAddress reports whether an ID is domain:bus:device.function.
func pciAddress(id string) bool {
	var domain, bus, device, function uint32
	n, err := fmt.Sscanf(id, "%x:%x:%x.%x", &domain, &bus, &device, &function)
	return err == nil && n == 4
}

// Want is one network's claim to a device.
type Want struct {
	Who      string // for messages: network "a" (annotation ..., network 2)
	Resource string // "" = the definition names none
	Choice   network.DeviceChoice
}

// needs reports whether the want is one at all.
func (w Want) needs() bool { return w.Resource != "" || w.Choice != network.DeviceChoice{} }

// fits reports whether a device is one that the want may get.
func (w Want) fits(d Device) bool {
	return d.ID != "" &&
		(w.Resource == "" || w.Resource == d.Resource) &&
		(w.Choice.Container == "" || w.Choice.Container == d.Container) &&
		(w.Choice.ID == "" || w.Choice.ID == d.ID)
}

// Pair gives each want one of the pod's devices, wants[i] the result's i; a
// want that names neither a resource nor a device gets none ("" ID). First
// come the wants that name a device, then those that name a container, then
// the others, so that nobody takes what another network chose. Within each,
// the wants' order decides, and each takes its first free device in the
// devices' order. Errors are Invalid: kubelet allocates before it starts the
// pod's network, so a device that is missing now will not come.
func Pair(pod string, wants []Want, devices []Device) ([]Device, error) {
	l := ledger{wants: wants, devices: devices, given: make([]Device, len(wants)), taker: map[string]string{}}
	for _, turn := range []func(Want) bool{
		func(w Want) bool { return w.Choice.ID != "" },
		func(w Want) bool { return w.Choice.ID == "" && w.Choice.Container != "" },
		func(w Want) bool { return w.Choice == network.DeviceChoice{} && w.Resource != "" },
	} {
		for i, w := range wants {
			if !turn(w) {
				continue
			}
			d, err := l.choose(w)
			if err != nil {
				return nil, network.Invalid.Errorf("pod %s: %w", pod, err)
			}
			l.given[i], l.taker[d.identity()] = d, w.Who
		}
	}
	return l.given, nil
}

// ledger is who got what. A device counts once: kubelet lists it under two
// containers when an init container's is used again.
type ledger struct {
	wants   []Want
	devices []Device
	given   []Device          // of wants[i]; zero until its turn
	taker   map[string]string // Device.identity -> Want.Who
}

// choose returns the device that is a want's.
func (l *ledger) choose(w Want) (Device, error) {
	if w.Choice.ID == "" && w.Resource == "" {
		return Device{}, network.Invalid.Errorf("%s asks for a device of container %q, and its definition does not say of which resource: annotate the definition with k8s.v1.cni.cncf.io/resourceName, or choose the device by its \"id\"",
			w.Who, w.Choice.Container)
	}
	for _, d := range l.devices {
		if !w.fits(d) {
			continue
		}
		taker, taken := l.taker[d.identity()]
		if !taken {
			return d, nil
		}
		if w.Choice.ID != "" {
			return Device{}, network.Invalid.Errorf("%s and %s both ask for device %q; give one of them another", taker, w.Who, d.ID)
		}
	}
	if w.Choice.ID != "" {
		return Device{}, l.notThePods(w)
	}
	return Device{}, l.shortage(w)
}

// notThePods says why a device that is named cannot be the network's.
func (l *ledger) notThePods(w Want) error {
	if same, n := l.list(Want{Choice: network.DeviceChoice{ID: w.Choice.ID}}); n > 0 {
		asked := ""
		if w.Resource != "" {
			asked += fmt.Sprintf(" of resource %q", w.Resource)
		}
		if w.Choice.Container != "" {
			asked += fmt.Sprintf(" of container %q", w.Choice.Container)
		}
		return network.Invalid.Errorf("%s needs a device%s, and %q, which it asks for, is %s: choose another, or correct the choice or the definition's resourceName",
			w.Who, asked, w.Choice.ID, same)
	}
	all, n := l.list(Want{})
	if n == 0 {
		return network.Invalid.Errorf("%s asks for device %q, and kubelet gave the pod no devices at all: ask for the resource in a container's resources.limits, or remove the choice", w.Who, w.Choice.ID)
	}
	return network.Invalid.Errorf("%s asks for device %q, which is none of the pod's %d (%s): choose one of these, or remove the choice", w.Who, w.Choice.ID, n, all)
}

// shortage says who got the devices that a want is left without, and how
// many the pod has to ask for.
func (l *ledger) shortage(w Want) error {
	needed := 0
	for i, other := range l.wants {
		if l.given[i].ID == "" && other.Resource == w.Resource && other.Choice == w.Choice {
			needed++
		}
	}
	whole := w
	whole.Choice = network.DeviceChoice{}
	who, has := l.list(whole)
	if has == 0 {
		return network.Invalid.Errorf("%s needs a device of %q: the pod has none; ask for it in %s's resources.limits (\"%s\": %d), and see that the resource's device plugin runs on the node",
			w.Who, w.Resource, of(w.Choice.Container, "a container"), w.Resource, needed)
	}
	if w.Choice.Container == "" {
		return network.Invalid.Errorf("%s needs a device of %q: the pod has %d (%s); ask for %d of it in the pod's resources", w.Who, w.Resource, has, who, has+needed)
	}
	_, own := l.list(w)
	return network.Invalid.Errorf("%s needs a device of %q of container %q: the container has %d, the pod %d (%s); ask for %d of it in the container's resources, or choose another container",
		w.Who, w.Resource, w.Choice.Container, own, has, who, own+needed)
}

func of(container, unnamed string) string {
	if container == "" {
		return unnamed
	}
	return fmt.Sprintf("container %q", container)
}

// list names the devices that fit a want, each once, with their takers, and
// counts them.
func (l *ledger) list(w Want) (string, int) {
	var text []string
	seen := map[string]bool{}
	for _, d := range l.devices {
		if !w.fits(d) || seen[d.identity()] {
			continue
		}
		seen[d.identity()] = true
		item := d.ID + " of container " + d.Container
		if w.Resource == "" {
			item = d.ID + " (" + d.Resource + ") of container " + d.Container
		}
		if taker, taken := l.taker[d.identity()]; taken {
			item += ": taken by " + taker
		}
		text = append(text, item)
	}
	return strings.Join(text, "; "), len(text)
}
