package provision

import (
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
	"github.com/multiplexer-cni/multiplexer/pkg/resource"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// Record is what is written down of a PF before it is changed. It makes the
// PF ours: without one nothing is taken back.
type Record struct {
	PCI  string `json:"pci"`
	Name string `json:"name"` // of its network device
	Boot string `json:"boot"`

	Original Original `json:"original"` // before us, in this boot
	Wish     Wish     `json:"wish"`
	Phase    Phase    `json:"phase"`

	VFs     int       `json:"vfs"`               // their number when we last knew
	Made    time.Time `json:"made,omitzero"`     // by us; zero: something else made them
	Offered bool      `json:"offered,omitempty"` // pods may have some since
	Raised  bool      `json:"raised,omitempty"`  // we took the PF up
	MTU     int       `json:"mtu,omitempty"`     // that we gave the PF
	Bound   []string  `json:"bound,omitempty"`   // VFs that we tied to a driver
	Fixed   []string  `json:"fixed,omitempty"`   // VFs whose address we fixed in the PF, or cannot
}

// Original is what a PF was.
type Original struct {
	NumVFs    int                   `json:"numVfs"`
	MTU       int                   `json:"mtu"`
	Up        bool                  `json:"up"`
	Autoprobe bool                  `json:"autoprobe"`
	VFs       map[string]OriginalVF `json:"vfs,omitempty"` // those that we found and changed
}

// OriginalVF is what a VF was that we did not make.
type OriginalVF struct {
	Driver   string `json:"driver"`
	Override string `json:"override,omitempty"`
	MTU      int    `json:"mtu,omitempty"`
	MAC      string `json:"mac,omitempty"` // that the PF held; "" = not changed
}

// Wish is what the configuration asked for.
type Wish struct {
	NumVFs int    `json:"numVfs"`
	Driver string `json:"driver,omitempty"`
	MTU    int    `json:"mtu,omitempty"`
}

// Phase is how far the work came.
type Phase string

// The phases.
const (
	making  Phase = "making" // the number of VFs is the old one, 0 or the new one
	setting Phase = "setting"
	done    Phase = "done"
)

func wishOf(pf *resource.PF) Wish { return Wish{NumVFs: pf.NumVFs, Driver: pf.Driver, MTU: pf.MTU} }

// done reports whether the wish was fulfilled in this boot.
func (r *Record) done(boot string, wish *resource.PF) bool {
	return r.Boot == boot && r.Phase == done && r.Wish == wishOf(wish)
}

// ours reports whether n VFs are those that we made.
func (r *Record) ours(n int) bool {
	return !r.Made.IsZero() && (n == r.VFs || r.Phase == making && n == r.Wish.NumVFs)
}

// fresh reports whether the VFs are ours and were never offered: what kubelet
// says of their addresses is about earlier ones.
func (r *Record) fresh() bool { return !r.Made.IsZero() && !r.Offered }

func (p *Provisioner) recordDir() string { return filepath.Join(p.StateDir, "pf") }
func (p *Provisioner) recordPath(pci string) string {
	return filepath.Join(p.recordDir(), pci+".json")
}

// records returns all of them by PCI address, as far as they can be read.
func (p *Provisioner) records() (map[string]*Record, error) {
	entries, err := os.ReadDir(p.recordDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, network.IO.Errorf("read the records of PFs: %w", err)
	}
	all := map[string]*Record{}
	var failed []error
	for _, entry := range entries {
		pci, ok := strings.CutSuffix(entry.Name(), ".json")
		if !ok {
			continue
		}
		r, readErr := p.record(pci)
		if failed = append(failed, readErr); r != nil {
			all[pci] = r
		}
	}
	return all, errors.Join(failed...)
}

// record reads one, nil if there is none. After a power loss an empty one may
// be left, of a boot that is over.
func (p *Provisioner) record(pci string) (*Record, error) {
	raw, err := lockfile.Read(p.recordPath(pci))
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(strings.Trim(string(raw), "\x00")) == 0 {
		return nil, nil
	}
	var r Record
	if err == nil {
		err = json.Unmarshal(raw, &r)
	}
	if normal, pciErr := sriov.NormalPCI("", r.PCI); err == nil && (pciErr != nil || normal != pci) {
		err = fmt.Errorf("it is about PF %q", r.PCI)
	}
	if err != nil {
		return nil, network.IO.Errorf("the record %s of what PF %s was before it was set up: %w; remove the file, and the PF is taken as it is", p.recordPath(pci), pci, err)
	}
	return &r, nil
}

// save writes a record, whole or not at all.
func (p *Provisioner) save(pci string, raw []byte) error {
	err := os.MkdirAll(p.recordDir(), 0o700)
	if err == nil {
		err = lockfile.Replace(p.recordPath(pci), raw, 0o600)
	}
	if err != nil {
		return network.IO.Errorf("write down what PF %s was: %w; nothing is changed without that", pci, err)
	}
	return nil
}

// forget ends a record.
func (p *Provisioner) forget(pci string) error {
	if err := os.Remove(p.recordPath(pci)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return network.IO.Errorf("remove a PF's record: %w", err)
	}
	return nil
}
