package sriovtest

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// Arrival is how a VF's network device learns the address that its PF set.
type Arrival int

// The ways of drivers.
const (
	AtReset Arrival = iota // when the device goes down, igb
	AtOnce                 // ixgbe's successors
	Late                   // after Driver.Slow, i40e
	Never                  // mlx5: the VF's own is set by itself
)

// Driver is how a PF's driver and its VFs' behave.
type Driver struct {
	Name, VF string // of the PF's and the VFs' driver
	VFs      int

	Lacks     []sriov.Knob // EOPNOTSUPP
	QinQ      bool         // knows 802.1ad; else EPROTONOSUPPORT
	MinRate   bool         // knows min_tx_rate; else EINVAL
	MaxRate   int          // Mbps, of the link
	MaxMTU    int          // that the VF says, 0 = it does not
	TakesMTU  int          // above it the driver refuses, whatever MaxMTU says; 0 = MaxMTU
	Switchdev bool         // the uplink is one of the PF's devices, among representors

	MAC        Arrival
	MACRefusal unix.Errno // for an untrusted VF that changes what its PF fixed; 0 = it may
	ShowsOwn   bool       // the PF reports the VF's own address as its setting

	Slow      time.Duration // until a value that was set reads back
	Busy      time.Duration // after each change, in which there is no other
	HomeAfter time.Duration // from the end of a namespace until its VF is on the node
	Probe     time.Duration // from binding a driver until its network device is there

	// TagsWhileDown: a VLAN is changed only while the VF's device is down.
	TagsWhileDown bool
	// ForgetsAtUp: the first time that a device comes up in a namespace it is
	// reset, to the address that it had from its PF.
	ForgetsAtUp bool

	KeepsUpNames bool // renaming a device that is up is EBUSY: kernels before 6.2

	// An answer with counters has this many VFs at most (0 = all), and one
	// that would have more is cut, or no answer: TooBig. Overfull: no answer
	// even without counters.
	Counted  int
	TooBig   bool
	Overfull bool
	Silent   bool // the driver reports no VF at all
}

// knows reports whether the driver has a knob.
func (d *Driver) knows(k sriov.Knob) bool { return !slices.Contains(d.Lacks, k) }

// Cannot lists keys of a configuration that the driver refuses.
func (d *Driver) Cannot() []string {
	var keys []string
	for _, k := range []struct {
		key    string
		refuse bool
	}{
		{"vlan", !d.knows(sriov.KnobVLAN)}, {"mac", !d.knows(sriov.KnobMAC)}, {"spoofchk", !d.knows(sriov.KnobSpoofChk)},
		{"trust", !d.knows(sriov.KnobTrust)}, {"link_state", !d.knows(sriov.KnobLinkState)},
		{"max_tx_rate", !d.knows(sriov.KnobRate)}, {"min_tx_rate", !d.MinRate || !d.knows(sriov.KnobRate)},
		{"802.1ad", !d.QinQ || !d.knows(sriov.KnobVLAN)}, {"pfOnly", d.Switchdev},
	} {
		if k.refuse {
			keys = append(keys, k.key)
		}
	}
	return keys
}

// IGB is QEMU's 82576 with Linux 6.12's igb and igbvf.
func IGB() Driver {
	return Driver{
		Name: "igb", VF: "igbvf", VFs: 7, Lacks: []sriov.Knob{sriov.KnobLinkState}, MaxRate: 1000, MaxMTU: 9216,
		MAC: AtReset, MACRefusal: unix.EADDRNOTAVAIL, ShowsOwn: true, HomeAfter: 200 * time.Millisecond, Probe: 300 * time.Millisecond,
	}
}

// Capable has every knob; a VF sets its address by itself, as mlx5's do.
func Capable() Driver {
	return Driver{
		Name: "capable", VF: "capablevf", VFs: 7, QinQ: true, MinRate: true, MaxRate: 100_000, MaxMTU: 9978, TakesMTU: 9000,
		MAC: Never, HomeAfter: 100 * time.Millisecond, Probe: time.Second, KeepsUpNames: true,
	}
}

// LateOne takes all over late, and says so to nobody.
func LateOne() Driver {
	d := Capable()
	d.Name, d.VF = "late", "latevf"
	d.Slow, d.MAC, d.MACRefusal, d.HomeAfter = 220*time.Millisecond, Late, unix.EACCES, 300*time.Millisecond
	return d
}

// BusyOne resets the VF at each change, and refuses the next one meanwhile:
// i40e and iavf.
func BusyOne() Driver {
	d := Capable()
	d.Name, d.VF = "busy", "busyvf"
	d.Busy, d.MAC, d.MACRefusal = 300*time.Millisecond, AtOnce, unix.EPERM
	return d
}

// Mute has VFs and no knob for them: virtio.
func Mute() Driver {
	return Driver{
		Name: "mute", VF: "mutevf", VFs: 7, MAC: AtOnce, HomeAfter: 100 * time.Millisecond, Probe: 100 * time.Millisecond,
		Lacks: []sriov.Knob{
			sriov.KnobVLAN, sriov.KnobMAC, sriov.KnobRate, sriov.KnobSpoofChk, sriov.KnobTrust, sriov.KnobLinkState,
		},
	}
}

// Switchdev has its uplink among the representors of its VFs.
func Switchdev() Driver {
	d := Capable()
	d.Name, d.VF, d.Switchdev = "switchdev", "switchdevvf", true
	return d
}

// Hundreds has more VFs than one answer with counters has room for: it is cut,
// as by kernels before 5.14 or so, or refused.
func Hundreds(tooBig bool) Driver {
	d := Capable()
	d.Name, d.VFs, d.Counted, d.TooBig = "hundreds", 256, 100, tooBig
	return d
}
