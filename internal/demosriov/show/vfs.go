package show

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/multiplexer-cni/multiplexer/internal/demo/text"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// columns of `multiplexerd vfs` that fit into a terminal.
func columns() []string {
	return []string{"PF", "VF", "PCI", "LINK", "STATE", "POD", "NETWORK", "MAC", "VLAN"}
}

// readVFs asks the operator's tool.
func (s *show) readVFs() ([]sriov.VFRow, error) {
	out, err := s.node.Output(s.Agent, "vfs", "-o", "json")
	if err != nil {
		return nil, err
	}
	var vfs []sriov.VFRow
	if err = json.Unmarshal(out, &vfs); err != nil {
		return nil, fmt.Errorf("decode the output of multiplexerd vfs: %w", err)
	}
	return vfs, nil
}

// vfs shows all VFs, of which that many must be in pods and the others free.
func (s *show) vfs(inPods int) error {
	vfs, err := s.readVFs()
	if err != nil {
		return err
	}
	states := map[sriov.State]int{}
	rows := [][]string{columns()}
	for i := range vfs {
		states[vfs[i].State]++
		all := vfs[i].TableRow()
		var row []string
		for _, name := range columns() {
			row = append(row, all[slices.Index(sriov.TableHeader(), name)])
		}
		rows = append(rows, row)
	}
	if err = text.Table(s.out, rows...); err != nil {
		return err
	}
	if free := len(s.pfs)*vfsPerPF - inPods; states[sriov.InPod] != inPods || states[sriov.Free] != free {
		return fmt.Errorf("%d VFs should be in pods and %d free; this is a bug: please report it with this output", inPods, free)
	}
	return nil
}

func (s *show) vfsInPods(context.Context) error {
	s.heading("multiplexerd vfs: the node's VFs, and whose they are (some columns left out)")
	return s.vfs(5)
}
