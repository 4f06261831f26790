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
