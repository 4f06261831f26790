package sriov

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/multiplexer-cni/multiplexer/pkg/lockfile"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// Offer is a device that the agent's device plugin lists to kubelet, with what
// of it cannot be seen while a pod has it.
type Offer struct {
	PCI      string   `json:"pci"`
	PF       string   `json:"pf"` // PCI address
	Resource string   `json:"resource"`
	Driver   string   `json:"driver"`
	LinkType string   `json:"linkType,omitempty"`
	RDMA     []string `json:"rdma,omitempty"`
	NUMA     int      `json:"numa"`
}

// offers is stateDir/devices.json.
type offers struct {
	Devices []Offer `json:"devices"`
}

func (c Claims) offersPath() string { return filepath.Join(filepath.Dir(c.Dir), "devices.json") }

// Offers returns what the device plugin lists, from stateDir/devices.json,
// which it keeps itself.
func (c Claims) Offers() ([]Offer, error) {
	path := c.offersPath()
	raw, err := lockfile.Read(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(bytes.Trim(raw, "\x00")) == 0 {
		return nil, nil
	}
	var file offers
	if err == nil {
		err = json.Unmarshal(raw, &file)
	}
	for i := range file.Devices {
		if pci, badErr := NormalPCI("pci", file.Devices[i].PCI); err == nil && (badErr != nil || pci != file.Devices[i].PCI) {
			err = fmt.Errorf("device %d: pci %q is no PCI address", i, clip(file.Devices[i].PCI))
		}
	}
	if err != nil {
		return nil, network.IO.Errorf("%s, which says what VFs the agent's device plugin lists: %w; it is written anew when the agent starts", path, err)
	}
	return file.Devices, nil
}

// SetOffers writes down all that the device plugin lists. To list a device for
// the first time, see Offer.
func (c Claims) SetOffers(list []Offer) error {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b Offer) int { return ComparePCI(a.PCI, b.PCI) })
	raw, err := json.Marshal(offers{Devices: list})
	if err != nil {
		return fmt.Errorf("encode the listed devices: %w", err)
	}
	path := c.offersPath()
	old, err := lockfile.Read(path)
	if err == nil && bytes.Equal(old, raw) || errors.Is(err, fs.ErrNotExist) && len(list) == 0 {
		return nil
	}
	if err = lockfile.ReplaceShared(path, raw, 0o600); err != nil {
		return network.IO.Errorf("write %s: %w; it must be in a writable directory of root's (stateDir in multiplexer's configuration)", path, err)
	}
	return nil
}

// Offer writes down devices of one PF that are listed for the first time,
// besides those that are. It has the PF's lock for that, which a pick by
// `master` holds while it takes a VF: one of the two sees the other. It
// returns the devices that are not to be listed, each with the reason.
func (c Claims) Offer(ctx context.Context, pf string, list []Offer) (refused map[string]string, err error) {
	unlock, err := c.lock(ctx, pf)
	if err != nil {
		return nil, err
	}
	defer unlock()
	refused = map[string]string{}
	holder, err := c.Get(pf)
	if err != nil {
		return nil, err
	}
	unlockOffers, err := c.lockOffers(ctx)
	if err != nil {
		return nil, err
	}
	defer unlockOffers()
	all, err := c.Offers()
	if err != nil {
		return nil, err
	}
	for _, o := range list {
		why := ""
		if holder != nil && o.PCI != pf {
			why = "its PF is held by " + holder.Holder()
		} else if r, readErr := c.Get(o.PCI); readErr != nil {
			why = readErr.Error()
		} else if r != nil && r.Picked {
			why = "was picked by `master` for " + r.Holder()
		}
		if why != "" {
			refused[o.PCI] = why
			continue
		}
		all = slices.DeleteFunc(all, func(old Offer) bool { return old.PCI == o.PCI })
		all = append(all, o)
	}
	return refused, c.SetOffers(all)
}

// lockOffers takes the lock of devices.json, for who adds to what it says: two
// agents, in an upgrade, may list devices of two PFs at once. Who has a PF's
// lock may wait for this one, nobody the other way round.
func (c Claims) lockOffers(ctx context.Context) (unlock func(), err error) {
	f, err := lockfile.Open(ctx, filepath.Join(c.Dir, "devices"+lockExt))
	if errors.Is(err, lockfile.ErrBusy) {
		return nil, network.Again.Errorf("%s is being changed by another agent: %w", c.offersPath(), err)
	}
	if err != nil {
		return nil, c.failed(err)
	}
	return func() { _ = f.Close() }, nil // nothing was written
}

// guardOffered refuses to pick a device that is advertised: since the pick
// began, maybe. The PF's lock is held.
func (c Claims) guardOffered(d *Device) error {
	advertised, err := c.Advertised()
	if err != nil {
		return err
	}
	if resource := advertised[d.PCI]; resource != "" {
		return network.Invalid.Errorf("sriov: %s is advertised as %s: ask for that resource in the pod, or name another device", d, resource)
	}
	return nil
}

// Claim is what one file of the claims says of a device.
type Claim struct {
	*Record       // nil if it is damaged
	Damaged error // nil if it is not
}

// ByDevice returns every claim by its device's PCI address, the damaged ones
// too.
func (c Claims) ByDevice() (map[string]Claim, error) {
	entries, err := os.ReadDir(c.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, c.failed(err)
	}
	claims := map[string]Claim{}
	for _, entry := range entries {
		pci, ok := strings.CutSuffix(entry.Name(), claimExt)
		if !ok {
			continue
		}
		if r, readErr := c.Get(pci); readErr != nil || r != nil {
			claims[pci] = Claim{Record: r, Damaged: readErr}
		}
	}
	return claims, nil
}

// ComparePCI puts PCI addresses in the order of the bus. A domain behind a VMD
// controller has more than four digits.
func ComparePCI(a, b string) int {
	return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
}

// Representors returns the network devices that stand for a PF's VFs in its
// switch, by the VFs' indexes; none where the PF has no switch.
func (s Sysfs) Representors(pf string) map[int]string {
	names, err := s.netdevs(pf)
	if err != nil || len(names) < 2 {
		return nil // there is the PF's own at most
	}
	port := regexp.MustCompile(`^pf\d+vf(\d+)$`)
	found := map[int]string{}
	for _, name := range names {
		match := port.FindStringSubmatch(readWord(filepath.Join(s.dir(pf), "net", name, "phys_port_name")))
		if match == nil {
			continue
		}
		if index, badErr := strconv.Atoi(match[1]); badErr == nil {
			found[index] = name
		}
	}
	return found
}
