package install

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

const recordFile = "installed.json"

// ErrUninstalled says that this installation was taken off the node on
// purpose, and does not come back by itself. Another one may.
var ErrUninstalled = errors.New("multiplexer was uninstalled from this node")

// record is what an installation put where, for whoever takes it off.
type record struct {
	Version      int    `json:"version"`
	Installation string `json:"installation,omitempty"`
	ConfDir      string `json:"confDir"`
	BinDir       string `json:"binDir"`
	Runtime      string `json:"runtime,omitempty"`
	NoConf       bool   `json:"noConf,omitempty"` // ours is not in confDir yet
	Aside        []move `json:"aside,omitempty"`  // other meta-plugins' confs
}

// move is a file that was renamed.
type move struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// Uninstall is one that began on a node, and may have ended. It stands in
// network.UninstallingFile.
type Uninstall struct {
	Installation string    `json:"installation,omitempty"` // that does not come back by itself; "" = it had no name
	Nothing      bool      `json:"nothing,omitempty"`      // nothing was installed: it means who came before
	Since        time.Time `json:"since"`
}

// When is the time of its begin in words, or "" where that is not known.
func (u *Uninstall) When() string {
	if u.Since.IsZero() {
		return ""
	}
	return " (begun " + u.Since.Format(time.RFC3339) + ")"
}

// Again says how to have multiplexer again on a node that it was taken off.
const Again = "to have it again, make the DaemonSet anew (kubectl delete -f deploy/install.yaml, then apply -f; or helm uninstall, then install), or give an agent outside of a pod another --installation, or run multiplexerd install on the node"

// ReadUninstall returns what a state directory of the node says of an
// uninstall; nil where it says nothing.
func ReadUninstall(root, stateDir string) (*Uninstall, error) {
	return host{root: root}.uninstalling(filepath.Join(stateDir, network.UninstallingFile))
}

func (n *Installer) recordPath() string { return filepath.Join(n.stateDir(), recordFile) }
func (n *Installer) markerPath() string { return filepath.Join(n.stateDir(), network.UninstallingFile) }

// readJSON reads a file of ours. It is false where there is none.
func (h host) readJSON(path string, into any) (bool, error) {
	raw, err := h.read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err = json.Unmarshal(raw, into); err != nil {
		return false, network.Malformed.Errorf("%s: %w; remove it", path, err)
	}
	return true, nil
}

func (h host) writeJSON(path string, value any) error {
	raw, err := encode(value)
	if err != nil {
		return err
	}
	if old, rerr := h.read(path); rerr == nil && bytes.Equal(old, raw) {
		return nil
	}
	return h.replace(path, bytes.NewReader(raw), 0o600)
}

// installed reads where things are; nil where nothing says it.
func (n *Installer) installed() (*record, error) {
	var r record
	there, err := n.host().readJSON(n.recordPath(), &r)
	if err != nil || !there {
		return nil, err
	}
	if !filepath.IsAbs(r.ConfDir) || !filepath.IsAbs(r.BinDir) {
		return nil, network.Malformed.Errorf("%s: confDir %q and binDir %q are no absolute paths; remove the file, and the flags count", n.recordPath(), r.ConfDir, r.BinDir)
	}
	return &r, nil
}

// recordNow writes down where things are. What an earlier installation moved
// aside is not forgotten, nor whose it was when it is done again by hand.
func (n *Installer) recordNow(more ...move) error {
	r := record{Version: 1, Installation: n.Installation, ConfDir: n.Paths.ConfDir, BinDir: n.Paths.BinDir, Runtime: n.Paths.Runtime}
	conf, err := n.conf()
	r.NoConf = err == nil && conf == nil
	var old record
	if _, err = n.host().readJSON(n.recordPath(), &old); err != nil && !errors.Is(err, network.Malformed) {
		return err
	}
	r.Installation = or(r.Installation, old.Installation)
	for _, m := range append(old.Aside, more...) {
		if !slices.Contains(r.Aside, m) {
			r.Aside = append(r.Aside, m)
		}
	}
	return n.host().writeJSON(n.recordPath(), r)
}

// recordConf writes down that our conf comes into its place, before it does.
func (n *Installer) recordConf() error {
	var r record
	_, err := n.host().readJSON(n.recordPath(), &r)
	if errors.Is(err, network.Malformed) {
		return nil // one that was spoilt says nothing as it is
	}
	if err != nil || !r.NoConf {
		return err
	}
	r.NoConf = false
	return n.host().writeJSON(n.recordPath(), r)
}

func (n *Installer) uninstalling() (*Uninstall, error) {
	return n.host().uninstalling(n.markerPath())
}

// uninstalling reads the marker, nil where there is none. One that cannot be
// read counts: the plugin asks only whether the file is there.
func (h host) uninstalling(marker string) (*Uninstall, error) {
	var m Uninstall
	there, err := h.readJSON(marker, &m)
	if errors.Is(err, network.Malformed) || errors.Is(err, network.Invalid) {
		return &Uninstall{}, nil
	}
	if err != nil {
		return nil, err
	}
	if !there {
		if _, err = os.Lstat(h.name(marker)); err == nil { // a link to nowhere
			return &Uninstall{}, nil
		}
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return nil, err
	}
	return &m, nil
}
