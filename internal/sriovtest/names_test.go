package sriovtest

import (
	"errors"
	"fmt"
	"testing"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// renaming is a kernel in which a device is renamed, as udev does, before it is
// looked up by its name for the n-th time.
type renaming struct {
	sriov.Kernel
	name string
	n    int
}

type renamingHost struct {
	sriov.Netns
	of *renaming
}

func (r *renaming) Open(path string) (sriov.Netns, error) {
	n, err := r.Kernel.Open(path)
	if err != nil || path != "" {
		return n, err
	}
	return &renamingHost{n, r}, nil
}

func (h *renamingHost) LinkByName(name string) (sriov.Link, error) {
	if name == h.of.name {
		if h.of.n--; h.of.n == 0 {
			link, err := h.Netns.LinkByName(name)
			if err != nil {
				return link, err
			}
			if err = h.Rename(link.Index, "udev7"); err != nil {
				return link, err
			}
		}
	}
	return h.Netns.LinkByName(name)
}

// A VF that gets another name in the middle of an ADD is not refused for good.
func TestRenamedMidway(t *testing.T) {
	for n := 1; n <= 4; n++ {
		for _, how := range []string{"deviceID", "master", "vf"} {
			t.Run(fmt.Sprintf("%s, look %d", how, n), func(t *testing.T) {
				onModel(t, Capable(), func(b *Bed, _ *Model) {
					kernel := b.Kernel
					b.plugin.Kernel = &renaming{Kernel: kernel, name: b.name(0), n: n}
					keys := map[string]obj{"deviceID": b.of(0, nil), "master": b.fast(nil), "vf": b.fast(obj{"vf": 0})}[how]
					p := b.pod(keys)
					if _, err := p.run(p.call("ADD")); err != nil && !errors.Is(err, network.Again) {
						b.t.Errorf("ADD: %v", err)
					}
					b.plugin.Kernel = kernel
					p.do("DEL")
				})
			})
		}
	}
}
