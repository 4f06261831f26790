package sriov

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// Admin is what a PF holds for one of its VFs (IFLA_VF_INFO).
type Admin struct {
	MAC       string `json:"mac"` // 00:00:00:00:00:00 = the VF chooses
	VLAN      int    `json:"vlan"`
	QoS       int    `json:"qos"`
	Proto     string `json:"proto"`     // proto8021Q or proto8021AD
	SpoofChk  string `json:"spoofchk"`  // on, off, or "" where the driver does not say
	Trust     string `json:"trust"`     // the same
	LinkState string `json:"linkState"` // auto, enable or disable
	MinTxRate int    `json:"minTxRate"` // Mbps, 0 = no limit
	MaxTxRate int    `json:"maxTxRate"`
}

// The words of Admin, as sriov-cni and ip-link spell them.
const (
	on  = "on"
	off = "off"

	linkAuto    = "auto"
	linkEnable  = "enable"
	linkDisable = "disable"

	proto8021Q  = "802.1q"
	proto8021AD = "802.1ad"

	zeroMAC = "00:00:00:00:00:00"
)

// Knob is one thing that can be set in an Admin.
type Knob string

// The knobs, by the configuration's keys.
const (
	KnobVLAN      Knob = "vlan"
	KnobMAC       Knob = "mac"
	KnobRate      Knob = "min_tx_rate and max_tx_rate"
	KnobSpoofChk  Knob = "spoofchk"
	KnobTrust     Knob = "trust"
	KnobLinkState Knob = "link_state"
)

// knobs are all of them in the order in which they are set.
func knobs() []Knob {
	return []Knob{KnobVLAN, KnobMAC, KnobRate, KnobSpoofChk, KnobTrust, KnobLinkState}
}

// value is a knob's part of the state, in words.
func (a Admin) value(k Knob) string {
	switch k {
	case KnobVLAN:
		if a.VLAN == 0 { // without a tag the rest of it means nothing
			return "0"
		}
		return fmt.Sprintf("%d, qos %d, %s", a.VLAN, a.QoS, a.Proto)
	case KnobMAC:
		return a.MAC
	case KnobRate:
		return fmt.Sprintf("%d and %d Mbps", a.MinTxRate, a.MaxTxRate)
	case KnobSpoofChk:
		return a.SpoofChk
	case KnobTrust:
		return a.Trust
	}
	return a.LinkState
}

// with returns the state with one knob as another state has it.
func (a Admin) with(k Knob, from Admin) Admin {
	switch k {
	case KnobVLAN:
		a.VLAN, a.QoS, a.Proto = from.VLAN, from.QoS, from.Proto
	case KnobMAC:
		a.MAC = from.MAC
	case KnobRate:
		a.MinTxRate, a.MaxTxRate = from.MinTxRate, from.MaxTxRate
	case KnobSpoofChk:
		a.SpoofChk = from.SpoofChk
	case KnobTrust:
		a.Trust = from.Trust
	case KnobLinkState:
		a.LinkState = from.LinkState
	}
	return a
}

// How long a driver that is busy, or takes a value over late, is waited for.
const (
	knobPatience = 2 * time.Second
	knobPause    = 50 * time.Millisecond
)

// unsupportedError says that a driver does not have a knob.
type unsupportedError struct {
	driver, value string
	knob          Knob
	err           error
}

func (e *unsupportedError) Error() string {
	return fmt.Sprintf("driver %s cannot set %s to %s (%s): leave the key out of the network's configuration, or set \"unsupported\": %q to go on without it",
		e.driver, e.knob, e.value, e.err, BestEffort)
}

func (e *unsupportedError) Unwrap() []error { return []error{network.Invalid, e.err} }

// settle brings what the PF holds for the VF to `want`, knob by knob, and
// reads each back: a driver may take a value over late, or not at all. What
// is right already is not written, unless it is one of `always`. Every knob is
// tried; it returns what failed.
func (j *job) settle(ctx context.Context, d *Device, want Admin, always ...Knob) []error {
	pf, err := j.pf(d)
	if err != nil {
		return []error{err}
	}
	now, err := j.admin(pf, d)
	if err != nil {
		return []error{err}
	}
	var failed []error
	for _, k := range knobs() {
		if now.value(k) == want.value(k) && !slices.Contains(always, k) {
			continue
		}
		if err = j.turn(ctx, pf, d, k, want); err != nil {
			failed = append(failed, err)
		}
	}
	return failed
}

// turn sets one knob and reads it back until it shows.
func (j *job) turn(ctx context.Context, pf int, d *Device, k Knob, want Admin) error {
	patience, cancel := context.WithTimeout(ctx, knobPatience)
	defer cancel()
	for last := false; ; last = wait(patience, knobPause) != nil { // and once more after that
		err := j.host.SetVF(pf, d.Index, k, want)
		switch {
		case errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPROTONOSUPPORT):
			return &unsupportedError{driver: d.PF.Driver, knob: k, value: want.value(k), err: err}
		case err != nil && !busy(err):
			return network.Invalid.Errorf("driver %s refused %s %s for VF %d of PF %s: %w%s", d.PF.Driver, k, want.value(k), d.Index, d.PF.Name, err, hint(k))
		case err == nil:
			var now Admin
			if now, err = j.admin(pf, d); err == nil && now.value(k) == want.value(k) {
				return nil
			} else if err == nil {
				err = fmt.Errorf("it reads back as %s", now.value(k))
			}
		}
		if last {
			return network.Again.Errorf("set %s of VF %d of PF %s to %s: not within %s: %w", k, d.Index, d.PF.Name, want.value(k), knobPatience, err)
		}
	}
}

// hint says what usually is the matter with a value that a driver refused.
func hint(k Knob) string {
	switch k {
	case KnobRate:
		return "; many drivers take rates only while the PF's link is up, none above the link's speed, and few a min_tx_rate"
	case KnobMAC:
		return "; another function may have it"
	}
	return ""
}

// admin returns what the PF holds for the VF now.
func (j *job) admin(pf int, d *Device) (Admin, error) {
	vfs, err := j.host.VFs(pf)
	if err != nil {
		return Admin{}, fmt.Errorf("read the VFs of PF %s: %w", d.PF.Name, err)
	}
	for _, vf := range vfs {
		if vf.Index == d.Index {
			return vf.Admin, nil
		}
	}
	if len(vfs) == 0 {
		return Admin{}, &unsupportedError{driver: d.PF.Driver, knob: Knob(fmt.Sprint(j.conf.knobs())), value: "anything", err: errors.New("it reports no VFs")}
	}
	return Admin{}, network.IO.Errorf("PF %s does not report VF %d: its driver %s names %d", d.PF.Name, d.Index, d.PF.Driver, len(vfs))
}

// pf returns the index of the PF's network device.
func (j *job) pf(d *Device) (int, error) {
	if d.PF.Name == "" {
		return 0, network.IO.Errorf("PF %s has no network device on the node: its driver is %q, or it is in a pod", d.PF.PCI, d.PF.Driver)
	}
	link, err := j.host.LinkByName(d.PF.Name)
	if err != nil {
		return 0, fmt.Errorf("find PF %s: %w", d.PF.Name, err)
	}
	if !link.IsOf(d.PF.PCI) {
		return 0, network.Again.Errorf("sriov: another device (%s) has the name %s of PF %s by now", link.PCI, d.PF.Name, d.PF.PCI)
	}
	return link.Index, nil
}

// busy reports an error that goes by itself.
func busy(err error) bool {
	return errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EAGAIN)
}

// wait sleeps, unless ctx ends first.
func wait(ctx context.Context, pause time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(pause):
		return nil
	}
}
