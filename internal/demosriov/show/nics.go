package show

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/multiplexer-cni/multiplexer/internal/demo/text"
	"github.com/multiplexer-cni/multiplexer/pkg/journal"
	"github.com/multiplexer-cni/multiplexer/pkg/routing"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// stateDir is multiplexer's own, at its default place.
const stateDir = "/var/lib/cni/multiplexer"

// carryWidth is how wide the column CARRIES may become.
const carryWidth = 24

// nics shows the pod's NICs, and who carries what as the kernel has it.
func (s *show) nics(context.Context) error {
	s.heading("The NICs of %s, and who carries what, as the kernel has it", s.front)
	contents, err := (&journal.Store{Dir: stateDir, Now: time.Now}).Read(s.front.name)
	if err != nil {
		return fmt.Errorf("read the journal of %s: %w", s.front, err)
	}
	var plan routing.Plan
	if err = json.Unmarshal(contents.Routing, &plan); err != nil {
		return fmt.Errorf("decode the routing plan of %s: %w", s.front, err)
	}
	kernel, err := routing.OpenPod(s.front.Path())
	if err != nil {
		return err
	}
	defer kernel.Close()
	shares, err := kernel.Carried(&plan)
	if err != nil {
		return err
	}
	vfs, err := s.readVFs()
	if err != nil {
		return err
	}
	rows := [][]string{{"NIC", "NETWORK", "FUNCTION", "MAC", "ADDRESS", "MTU", "CARRIES"}}
	for i := range shares {
		row, rowErr := s.front.row(&shares[i], contents.Records[shares[i].Attachment].Reference, vfs)
		if rowErr != nil {
			return rowErr
		}
		rows = append(rows, row)
	}
	if err = text.Table(s.out, rows...); err != nil {
		return err
	}
	s.say("")
	for i := range plan.Removed {
		s.say("  Not kept: the network's own %s, which the pod did not ask for.", &plan.Removed[i])
	}
	return nil
}

// row is a NIC's row in the table: of a VF the operator's tool knows which.
func (p *pod) row(share *routing.Share, network string, vfs []sriov.VFRow) ([]string, error) {
	handle, err := p.Handle()
	if err != nil {
		return nil, err
	}
	link, err := handle.LinkByName(share.Name)
	if err != nil {
		return nil, fmt.Errorf("find NIC %s: %w", share.Name, err)
	}
	address, err := p.address(share.Name)
	if err != nil {
		return nil, err
	}
	function := link.Type()
	if function != "veth" {
		vf, vfErr := p.vf(share.Name, vfs)
		if vfErr != nil {
			return nil, vfErr
		}
		function = fmt.Sprintf("VF %d of %s\n%s", vf.VF, vf.PF, vf.PCI)
	}
	carries := share.TableRow()[slices.Index(routing.ShareHeader(), "CARRIES")]
	return []string{
		share.Name, network, function, link.Attrs().HardwareAddr.String(), address.String(),
		strconv.Itoa(link.Attrs().MTU), text.Wrap(carries, carryWidth),
	}, nil
}

// vf is the VF that the pod has under this name.
func (p *pod) vf(nic string, vfs []sriov.VFRow) (*sriov.VFRow, error) {
	i := slices.IndexFunc(vfs, func(r sriov.VFRow) bool { return r.Container == p.name && r.Interface == nic })
	if i < 0 {
		return nil, fmt.Errorf("multiplexerd vfs knows of no VF that %s has as %s", p, nic)
	}
	return &vfs[i], nil
}
