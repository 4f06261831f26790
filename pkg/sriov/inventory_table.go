package sriov

import (
	"strconv"
	"strings"
)

// VFRow is a VF, or a PF that went to a pod itself, as the tool and the
// agent's metrics show it.
type VFRow struct {
	PF     string `json:"pf"` // name of its network device, else the PCI address
	PFPCI  string `json:"pfPCI"`
	VF     int    `json:"vf"` // index; -1 = the PF itself
	PCI    string `json:"pci"`
	Driver string `json:"driver,omitempty"` // "" = none is bound
	Link   string `json:"link,omitempty"`   // its network device on the node; "" = none, or it is in a pod
	NUMA   int    `json:"numa"`             // -1 = the machine has no nodes
	State  State  `json:"state"`

	Namespace string `json:"namespace,omitempty"`
	Pod       string `json:"pod,omitempty"`
	Container string `json:"container,omitempty"` // ID of the pod's sandbox
	Interface string `json:"interface,omitempty"` // its name in the pod
	Network   string `json:"network,omitempty"`
	Resource  string `json:"resource,omitempty"` // that a device plugin advertises it as

	MAC      string      `json:"mac,omitempty"`
	VLAN     int         `json:"vlan,omitempty"`
	Admin    *Admin      `json:"admin,omitempty"`    // what the PF holds for it; nil = not known
	Counters *VFCounters `json:"counters,omitempty"` // nil = not known
	Reason   string      `json:"reason,omitempty"`   // what there is to say of the state
}

// VFCounters are Counters for JSON.
type VFCounters struct {
	RxPackets uint64 `json:"rxPackets"`
	TxPackets uint64 `json:"txPackets"`
	RxBytes   uint64 `json:"rxBytes"`
	TxBytes   uint64 `json:"txBytes"`
	RxDropped uint64 `json:"rxDropped"`
	TxDropped uint64 `json:"txDropped"`
}

// setPod takes namespace/name.
func (r *VFRow) setPod(pod string) {
	if namespace, name, ok := strings.Cut(pod, "/"); ok {
		r.Namespace, r.Pod = namespace, name
	}
}

// take takes over what the PF holds for the VF; nil = it does not say.
func (r *VFRow) take(held *VFRow) {
	if held == nil {
		return
	}
	r.Admin, r.Counters, r.VLAN = held.Admin, held.Counters, held.Admin.VLAN
	if mac := held.Admin.MAC; mac != "" && mac != zeroMAC {
		r.MAC = mac
	}
}

// TableHeader names the columns of VFRow.TableRow.
func TableHeader() []string {
	return []string{
		"PF", "VF", "PCI", "DRIVER", "LINK", "NUMA", "STATE", "NAMESPACE", "POD", "NETWORK",
		"MAC", "VLAN", "RX-BYTES", "TX-BYTES", "DROPPED", "RESOURCE", "REASON",
	}
}

// TableRow shows the VF as one row.
func (r *VFRow) TableRow() []string {
	rx, tx, dropped := "-", "-", "-"
	if c := r.Counters; c != nil {
		rx, tx, dropped = count(c.RxBytes), count(c.TxBytes), count(c.RxDropped+c.TxDropped)
	}
	vlan := "-"
	if r.VLAN != 0 {
		vlan = strconv.Itoa(r.VLAN)
	}
	return []string{
		r.PF, r.Index(), r.PCI, orDash(r.Driver), orDash(r.Link), natural(r.NUMA), string(r.State),
		orDash(r.Namespace), orDash(r.Pod), orDash(r.Network), orDash(r.MAC), vlan, rx, tx, dropped,
		orDash(r.Resource), orDash(strings.Join(strings.Fields(r.Reason), " ")),
	}
}

// Index is the VF's index in words: "-" for a PF.
func (r *VFRow) Index() string { return natural(r.VF) }

// natural writes a number that means nothing below 0.
func natural(n int) string {
	if n < 0 {
		return "-"
	}
	return strconv.Itoa(n)
}

func count(n uint64) string { return strconv.FormatUint(n, 10) }

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
