package install

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// sameState refuses to replace a conf by one with another stateDir while the
// old one holds journals: DEL would look for them in the new one, and what
// those pods have would never be released.
func (n *Installer) sameState(there []byte) error {
	list, err := network.ParseList(n.confPath(), "", there)
	if err != nil || !slices.Equal(list.Types(), []string{PluginName}) {
		return nil // a file that was spoilt says nothing
	}
	entry, err := entryAsSent(list, 0)
	if err != nil {
		return nil
	}
	old, err := network.ParseForDEL(entry)
	if err != nil || old.StateDir == n.stateDir() {
		return nil
	}
	journals, err := os.ReadDir(n.host().at(filepath.Join(old.StateDir, "journal")))
	switch {
	case errors.Is(err, fs.ErrNotExist) && n.host().exists(old.StateDir), err == nil && len(journals) == 0:
		return nil
	case err != nil:
		return network.Invalid.Errorf("stateDir is to be %s, and that of %s is %s, where nobody can see whether pods still have networks: %w; leave it as it is, or uninstall first", n.stateDir(), n.confPath(), old.StateDir, err)
	}
	return network.Invalid.Errorf("stateDir is to be %s, and that of %s is %s, with the journals of %d containers: their networks would never be released; leave it as it is, or drain the node and uninstall first", n.stateDir(), n.confPath(), old.StateDir, len(journals))
}

// sameConfDir refuses another confDir than our conf is in: the runtime may go
// on with the old one, and an uninstall, which looks into the new one, would
// take the plugin away from under it.
func (n *Installer) sameConfDir() error {
	old, err := n.installed()
	if errors.Is(err, network.Malformed) {
		return nil // a record that was spoilt says nothing
	}
	if err != nil || old == nil || old.NoConf || n.sameDir(old.ConfDir, n.Paths.ConfDir) {
		return err
	}
	conf := filepath.Join(old.ConfDir, ConfName)
	switch {
	case n.hidden(old.ConfDir):
		return network.Invalid.Errorf("confDir is to be %s, and by %s the conf was put into %s, which cannot be seen from here: the runtime may still use it; leave --cni-conf-dir (cni.confDir of the chart) as it was, or uninstall first", n.Paths.ConfDir, n.recordPath(), old.ConfDir)
	case n.host().exists(conf):
		return network.Invalid.Errorf("confDir is to be %s, and our conf is still in %s: an uninstall would not find it, and without its plugin no pod could start; leave --cni-conf-dir (cni.confDir of the chart) as it was, or uninstall first, or remove %s if no runtime reads it", n.Paths.ConfDir, old.ConfDir, conf)
	}
	return nil
}

// hidden reports whether a directory that a file may be in cannot be seen from
// here: a container sees only what is mounted into it.
func (n *Installer) hidden(dir string) bool {
	if n.Unseen != nil {
		return n.Unseen(dir)
	}
	return n.host().root != "/" && !n.host().exists(dir)
}

// sameDir reports whether two paths lead to one directory.
func (n *Installer) sameDir(a, b string) bool {
	if a == b {
		return true
	}
	one, err := os.Stat(n.host().at(a))
	if err != nil {
		return false
	}
	other, err := os.Stat(n.host().at(b))
	return err == nil && os.SameFile(one, other)
}
