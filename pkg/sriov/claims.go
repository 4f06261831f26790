package sriov

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/lockfile"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/podns"
)

// Record is what is written down before a VF is touched: whose it is and how
// it was. The attachment's journal entry and the VF's claim hold the same.
type Record struct {
	Container string `json:"container"`
	IfName    string `json:"ifname"`
	Pod       string `json:"pod,omitempty"` // namespace/name
	Network   string `json:"network"`
	podns.Ref        // the pod's namespace

	PCI    string `json:"pci"`
	PF     string `json:"pf"`               // PCI address
	Index  int    `json:"index"`            // -1 = the PF itself
	Picked bool   `json:"picked,omitempty"` // by `master`, not by a device plugin

	MAC      string   `json:"mac,omitempty"`     // that the pod asked for
	Applied  *Admin   `json:"applied,omitempty"` // what the PF is to hold; nil = as it was
	Set      []Knob   `json:"set,omitempty"`     // which of it the configuration asks for
	Original Original `json:"original"`

	Since  time.Time `json:"since"`
	Failed string    `json:"failed,omitempty"` // why it could not be restored: the VF is quarantined
}

// Original is the state of a device before it went to a pod.
type Original struct {
	Admin    *Admin   `json:"admin,omitempty"` // nil: nothing of it was to be changed
	Driver   string   `json:"driver"`
	Netdev   string   `json:"netdev,omitempty"` // "" = it had no network device
	MAC      string   `json:"mac,omitempty"`
	MTU      int      `json:"mtu,omitempty"`
	AltNames []string `json:"altnames,omitempty"`
	Flags    *uint32  `json:"flags,omitempty"` // nil = not known
	Up       bool     `json:"up,omitempty"`
}

// Holder names who has the VF, for messages.
func (r *Record) Holder() string {
	if r.Pod == "" {
		return fmt.Sprintf("container %s (%s)", r.Container, r.IfName)
	}
	return fmt.Sprintf("pod %s (container %s, %s)", r.Pod, r.Container, r.IfName)
}

// sound reports whether a record that was read can be one of ours: its device
// becomes part of paths.
func (r *Record) sound() bool {
	pci, err := NormalPCI("", r.PCI)
	return err == nil && pci == r.PCI && r.Index >= -1
}

// isOf reports whether the record is about this attachment.
func (r *Record) isOf(container, ifname string) bool {
	return r.Container == container && r.IfName == ifname
}

// Claims is the directory stateDir/vf: a file for each VF that a pod has,
// named by its PCI address, and the locks of PFs and VFs. Directory 0700,
// files 0600.
type Claims struct {
	Dir string
	// Foreign is sriov-cni's directory. Where it exists, its locks are taken
	// too and its allocations honoured, so that both can live on a node.
	Foreign string
}

// NewClaims returns the claims of a node by its stateDir.
func NewClaims(stateDir, foreign string) Claims {
	return Claims{Dir: filepath.Join(stateDir, "vf"), Foreign: foreign}
}

const (
	claimExt = ".json"
	lockExt  = ".lock"
)

func (c Claims) path(pci string) string { return filepath.Join(c.Dir, pci+claimExt) }

// Get returns a VF's claim, nil if nobody has it.
func (c Claims) Get(pci string) (*Record, error) {
	raw, err := lockfile.Read(c.path(pci))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil && !lockfile.Irregular(err) {
		return nil, c.failed(err)
	}
	if err == nil && len(bytes.Trim(raw, "\x00")) == 0 { // after a power loss, which no VF's state outlives
		return nil, nil
	}
	var r Record
	if err == nil {
		err = json.Unmarshal(raw, &r)
	}
	if err != nil || r.PCI != pci || !r.sound() {
		return nil, network.IO.Errorf("the claim %s is damaged: see with `multiplexerd vfs` whether a pod has the VF; if none has, remove the file", c.path(pci))
	}
	return &r, nil
}

// All returns every claim. What cannot be read is in the error; the others
// are returned all the same.
func (c Claims) All() ([]*Record, error) {
	entries, err := os.ReadDir(c.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, c.failed(err)
	}
	var all []*Record
	var failed []error
	for _, entry := range entries {
		pci, ok := strings.CutSuffix(entry.Name(), claimExt)
		if !ok {
			continue
		}
		r, readErr := c.Get(pci)
		if failed = append(failed, readErr); r != nil {
			all = append(all, r)
		}
	}
	return all, errors.Join(failed...)
}

// put writes a claim, whole or not at all. The VF's lock is held.
func (c Claims) put(r *Record) error {
	raw, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode a claim: %w", err)
	}
	if err = lockfile.Replace(c.path(r.PCI), raw, 0o600); err != nil {
		return c.failed(err)
	}
	return nil
}

// drop ends a claim. The VF's lock is held.
func (c Claims) drop(pci string) error {
	if err := os.Remove(c.path(pci)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return c.failed(err)
	}
	return nil
}

// lock takes the lock of a PF or VF until the returned function is called.
func (c Claims) lock(ctx context.Context, pci string) (unlock func(), err error) {
	if err = os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, c.failed(err)
	}
	own, err := lockfile.Open(ctx, filepath.Join(c.Dir, pci+lockExt))
	if err != nil {
		return nil, c.lockFailed(pci, err)
	}
	other, err := c.lockForeign(ctx, pci)
	if err != nil {
		return nil, errors.Join(c.lockFailed(pci, err), own.Close())
	}
	return func() {
		if other != nil {
			_ = other.Close() // nothing was written
		}
		_ = own.Close()
	}, nil
}

// lockForeign takes sriov-cni's own lock of a VF.
func (c Claims) lockForeign(ctx context.Context, pci string) (*os.File, error) {
	if !c.foreignExists() {
		return nil, nil
	}
	dir := filepath.Join(c.Foreign, "pci", "vf_lock")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return lockfile.Open(ctx, filepath.Join(dir, pci+lockExt))
}

func (c Claims) foreignExists() bool { return c.Foreign != "" && exists(c.Foreign) }

func (c Claims) lockFailed(pci string, err error) error {
	if errors.Is(err, lockfile.ErrBusy) {
		return network.Again.Errorf("sriov: device %s is being worked on by another call: %w", pci, err)
	}
	return c.failed(err)
}

func (c Claims) failed(err error) error {
	return network.IO.Errorf("VF claims in %s: %w; it must be a writable directory of root's (stateDir in multiplexer's configuration)", c.Dir, err)
}
