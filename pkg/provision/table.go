package provision

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// TableHeader names the columns of PFStatus.TableRow.
func TableHeader() []string {
	return []string{"PF", "ADDRESS", "VFS", "DRIVER", "MTU", "STATE", "REASON"}
}

// TableRow shows a PF as one row.
func (s *PFStatus) TableRow() []string {
	state, mtu, reason := string(s.State), "-", s.Reason
	if s.Undo {
		state = "undo, " + state
	}
	if s.MTU != 0 {
		mtu = strconv.Itoa(s.MTU)
	}
	if reason == "" {
		for _, vf := range slices.Sorted(maps.Keys(s.Waiting)) {
			reason += "; VF " + vf + " " + s.Waiting[vf]
		}
	}
	return []string{
		orDash(s.Name), orDash(s.PCI), strconv.Itoa(s.NumVFs), orDash(s.Driver), mtu, state,
		orDash(strings.Join(strings.Fields(strings.TrimPrefix(reason, "; ")), " ")),
	}
}

// Withheld says of a VF what Provisioner.WithholdVF does, by a status that
// was read.
func Withheld(all []PFStatus, pf *sriov.PF, vf string) string {
	for i := range all {
		s := &all[i]
		switch {
		case s.PCI != pf.PCI:
		case s.Withheld && s.Reason != "":
			return s.Reason
		case s.Withheld:
			return "PF " + pf.PCI + " is being set up"
		case s.Waiting[vf] != "":
			return s.Waiting[vf]
		}
	}
	return ""
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
