package sriov

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/podns"
)

// sriov-cni keeps, below /var/lib/cni/sriov:
//
//	CONTAINERID-IFNAME    the network's configuration with OrigVfState in it
//	pci/ADDRESS           the path of the namespace that has the VF
//	pci/vf_lock/ADDRESS.lock
//
// Pods that it started are deleted by us after a migration, and while both are
// on a node, neither takes a VF that the other's pods have.

// foreignConf is what counts here of a record of sriov-cni.
type foreignConf struct {
	DeviceID    string
	Vlan        *int
	SpoofChk    string
	Trust       string
	LinkState   string `json:"link_state"`
	MinTxRate   *int   `json:"min_tx_rate"`
	MaxTxRate   *int   `json:"max_tx_rate"`
	OrigVfState foreignState
}

// changed are the knobs that sriov-cni sets by this configuration. The
// administrative address it sets back always.
func (f *foreignConf) changed() []Knob {
	c := Conf{
		MAC: "always", VLAN: f.Vlan, SpoofChk: f.SpoofChk, Trust: f.Trust, LinkState: f.LinkState, MinTxRate: f.MinTxRate, MaxTxRate: f.MaxTxRate,
	}
	return c.knobs()
}

// foreignState is sriov-cni's VfState.
type foreignState struct {
	HostIFName   string
	SpoofChk     bool
	Trust        bool
	AdminMAC     string
	EffectiveMAC string
	Vlan         int
	VlanQoS      int
	VlanProto    int
	MinTxRate    int
	MaxTxRate    int
	LinkState    uint32
	MTU          int
}

// record returns the foreign record in our words. Only what that plugin
// changed is restored, and the administrative address always, as it does.
func (f *foreignConf) record(container, ifname string) (*Record, error) {
	pci, err := NormalPCI("deviceID of a record of sriov-cni", f.DeviceID)
	if err != nil {
		return nil, err
	}
	was := f.OrigVfState
	admin := Admin{
		MAC: strings.ToLower(was.AdminMAC), VLAN: was.Vlan, QoS: was.VlanQoS, Proto: proto8021Q,
		SpoofChk: onOff(was.SpoofChk), Trust: onOff(was.Trust), LinkState: linkAuto, MinTxRate: was.MinTxRate, MaxTxRate: was.MaxTxRate,
	}
	if was.VlanProto == unix.ETH_P_8021AD || was.VlanProto == int(bigEndian(unix.ETH_P_8021AD)) {
		admin.Proto = proto8021AD // its versions differ in the order of the bytes
	}
	if int(was.LinkState) < len(linkStates()) {
		admin.LinkState = linkStates()[was.LinkState]
	}
	if admin.MAC == "" {
		admin.MAC = zeroMAC
	}
	return &Record{
		Container: container, IfName: ifname, PCI: pci, Set: f.changed(),
		Original: Original{Admin: &admin, Netdev: was.HostIFName, MAC: strings.ToLower(was.EffectiveMAC), MTU: was.MTU},
	}, nil
}

func onOff(b bool) string {
	if b {
		return on
	}
	return off
}

// Left implements network.Heir: the attachments of a container that
// sriov-cni made, each with its configuration as that plugin kept it.
func (p *Plugin) Left(container string) ([]network.Attachment, error) {
	if err := network.ValidateContainerID(container); err != nil || p.Foreign == "" {
		return nil, err
	}
	entries, err := os.ReadDir(p.Foreign)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, network.IO.Errorf("read the records of sriov-cni: %w", err)
	}
	var left []network.Attachment
	for _, entry := range entries {
		ifname, ok := strings.CutPrefix(entry.Name(), container+"-")
		if !ok || entry.IsDir() || network.ValidateInterface("interface", ifname) != nil {
			continue
		}
		path := filepath.Join(p.Foreign, entry.Name())
		list, readErr := readForeign(path)
		if readErr != nil {
			return nil, readErr
		}
		left = append(left, network.Attachment{List: *list, Reference: list.Name, Source: path, IfName: ifname})
	}
	return left, nil
}

func readForeign(path string) (*network.List, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, network.IO.Errorf("read a record of sriov-cni: %w", err)
	}
	return network.ParseList(path, "", raw)
}

// foreignPath is where sriov-cni recorded an attachment.
func (c Claims) foreignPath(container, ifname string) string {
	return filepath.Join(c.Foreign, container+"-"+ifname)
}

// giveBackForeign restores a VF that sriov-cni gave to this attachment, by
// that plugin's record. Without one nothing is left.
func (j *job) giveBackForeign(ctx context.Context) error {
	if !j.claims.foreignExists() {
		return nil
	}
	path := j.claims.foreignPath(j.call.ContainerID, j.call.IfName)
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var f foreignConf
	if err == nil {
		err = json.Unmarshal(raw, &f)
	}
	if err != nil {
		return network.IO.Errorf("the record %s of sriov-cni: %w", path, err)
	}
	r, err := f.record(j.call.ContainerID, j.call.IfName)
	if err != nil {
		return fmt.Errorf("the record %s: %w", path, err)
	}
	unlock, err := j.claims.lock(ctx, r.PCI)
	if err != nil {
		return err
	}
	defer unlock()
	taken, err := j.restoreForeign(ctx, r)
	if err != nil {
		return err
	}
	if !taken { // or the allocation is the other pod's
		err = j.claims.dropForeign(r)
	}
	return errors.Join(err, remove(path))
}

// restoreForeign restores a VF unless another pod has taken it by now. Which boot
// the record is of nobody wrote down: a namespace that is gone, and a VF
// that is on the node under its own name and address, needs nothing.
func (j *job) restoreForeign(ctx context.Context, r *Record) (taken bool, err error) {
	claim, err := j.claims.Get(r.PCI)
	if err != nil || claim != nil {
		return claim != nil, err
	}
	netns := ""
	if j.there(j.call.Netns) {
		netns = j.call.Netns
	}
	if other := j.claims.foreignHolder(r.PCI); other != j.call.Netns && j.there(other) {
		return true, nil // sriov-cni gave it to another pod
	}
	d, err := j.device(r)
	if err != nil || d == nil {
		return false, err
	}
	r.PF, r.Index, r.Boot = d.PF.PCI, d.Index, j.boot
	r.Original.Driver = d.Driver
	if r.Original.Driver == "" || d.userspace() {
		r.Original.Netdev = ""
	}
	if err = j.keepUnchanged(r, d); err != nil {
		return false, err
	}
	return false, j.restore(ctx, r, netns)
}

// keepUnchanged leaves what sriov-cni did not change as it is now: its record
// says yes or no also where the driver has no such setting.
func (j *job) keepUnchanged(r *Record, d *Device) error {
	pf, err := j.pf(d)
	if err != nil {
		return err
	}
	admin, err := j.admin(pf, d)
	if err != nil {
		return err
	}
	for _, k := range r.Set {
		admin = admin.with(k, *r.Original.Admin)
	}
	r.Original.Admin = &admin
	return nil
}

// foreignHolder is the namespace that has a VF by sriov-cni's word, "" = none.
func (c Claims) foreignHolder(pci string) string {
	if !c.foreignExists() {
		return ""
	}
	return readWord(filepath.Join(c.Foreign, "pci", pci))
}

// takenByForeign reports whether sriov-cni has given the record's device to
// another living pod: to it, one whose namespace is gone is free.
func (j *job) takenByForeign(r *Record) bool {
	other := j.claims.foreignHolder(r.PCI)
	return other != r.Path && other != j.call.Netns && j.there(other)
}

// there reports whether a network namespace can be reached, or that nobody can
// tell now. "" is none.
func (j *job) there(netns string) bool {
	return podns.Ref{Path: netns, Boot: j.boot}.Live(j.boot) != ""
}

// vacateForeign reports the holder of a device that sriov-cni gave away.
func (j *job) vacateForeign(_ context.Context, d *Device) (string, error) {
	path := j.claims.foreignHolder(d.PCI)
	if !j.there(path) { // it is gone, as sriov-cni itself sees it
		return "", nil
	}
	return "a pod of sriov-cni (network namespace " + path + ")", nil
}

// putForeign tells sriov-cni that a VF is taken.
func (c Claims) putForeign(r *Record) error {
	if !c.foreignExists() || r.Index < 0 {
		return nil
	}
	dir := filepath.Join(c.Foreign, "pci")
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, r.PCI), []byte(r.Path), 0o600)
	}
	if err != nil {
		return network.IO.Errorf("sriov-cni's allocations: %w", err)
	}
	return nil
}

// dropForeign takes sriov-cni's allocation of a VF back. The VF's lock is held.
func (c Claims) dropForeign(r *Record) error {
	if !c.foreignExists() {
		return nil
	}
	if other := c.foreignHolder(r.PCI); r.Path != "" && other != r.Path {
		return nil // another pod's
	}
	return remove(filepath.Join(c.Foreign, "pci", r.PCI))
}

// release ends a claim. sriov-cni's allocation goes first: as long as there is
// a claim, a DEL that was killed here is done again from its beginning.
func (c Claims) release(r *Record) error {
	if err := c.dropForeign(r); err != nil {
		return err
	}
	return c.drop(r.PCI)
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return network.IO.Errorf("remove: %w", err)
	}
	return nil
}
