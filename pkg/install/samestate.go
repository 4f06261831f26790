package install

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// standing is a conf by which pods of the node were attached.
type standing struct {
	path   string
	config *network.Config
}

// standing returns our conf; where that is missing or was spoilt, what was it
// before somebody renamed it, and what others wrote.
func (n *Installer) standing() (all []standing) {
	if own := n.standingAt(n.confPath()); own != nil {
		return []standing{*own}
	}
	files, err := n.host().others().Files(n.Paths.ConfDir, network.ConfExtensions()...)
	if err != nil {
		return nil // who reads it next says so
	}
	for _, file := range append(n.copies(), files...) {
		if one := n.standingAt(file); one != nil {
			all = append(all, *one)
		}
	}
	return all
}

// standingAt is nil where a file says nothing: it is not ours, or was spoilt.
func (n *Installer) standingAt(file string) *standing {
	list, err := n.host().folder().List(file, network.AlwaysMore)
	if err != nil {
		return nil
	}
	i := slices.Index(list.Types(), PluginName)
	if i < 0 {
		return nil
	}
	entry, err := entryAsSent(list, i)
	if err != nil {
		return nil
	}
	config, err := network.ParseForDEL(entry)
	if err != nil {
		return nil
	}
	return &standing{file, config}
}

// checkState refuses a stateDir that would do harm.
func (n *Installer) checkState() error {
	if err := n.ownState(); err != nil {
		return err
	}
	return n.sameState()
}

// ownState refuses a stateDir that is a directory for something else too: the
// runtime would read our files as configurations, an uninstall Multus's as ours.
func (n *Installer) ownState() error {
	config, _, err := n.settings().parse()
	if err != nil {
		return err
	}
	for _, other := range []struct{ what, dir string }{
		{"the runtime's directory of configurations", n.Paths.ConfDir}, {"the directory of plugins", n.Paths.BinDir},
		{"cniDir", config.CNIDir}, {"confDir", config.ConfDir}, {"clusterConfDir", config.ClusterConfDir},
	} {
		if other.dir != "" && n.sameDir(config.StateDir, other.dir) {
			return network.Invalid.Errorf("stateDir %s is %s too: give stateDir a directory of its own", config.StateDir, other.what)
		}
	}
	return nil
}

// sameState refuses another stateDir or cniDir than the conf on the node has,
// while the old one holds what DEL needs: it would look into the new one, and
// what those pods have would never be released.
func (n *Installer) sameState() error {
	for _, old := range n.standing() {
		if err := n.nothingIn(old); err != nil {
			return err
		}
		if err := n.sameRecords(old); err != nil {
			return err
		}
	}
	return nil
}

// nothingIn refuses to leave a stateDir with something in it.
func (n *Installer) nothingIn(old standing) error {
	dir := old.config.StateDir
	if n.sameDir(dir, n.stateDir()) {
		return nil
	}
	const leave = "; leave it as it is, or "
	change := fmt.Sprintf("stateDir is to be %s, and that of %s is %s", n.stateDir(), old.path, dir)
	journals, err := os.ReadDir(n.host().at(filepath.Join(dir, "journal")))
	switch {
	case err != nil && (!errors.Is(err, fs.ErrNotExist) || !n.host().exists(dir)):
		return network.Invalid.Errorf("%s, where nobody can see whether pods still have networks: %w"+leave+"uninstall first", change, err)
	case len(journals) > 0:
		return network.Invalid.Errorf("%s, with the journals of %d containers: their networks would never be released"+leave+"drain the node and uninstall first", change, len(journals))
	}
	for _, kind := range []string{"vf", "pf"} {
		if files, gerr := filepath.Glob(n.host().at(filepath.Join(dir, kind, "*.json"))); gerr == nil && len(files) > 0 {
			return network.Invalid.Errorf("%s, with what has to be given back of VFs and PFs (%s)"+leave+"uninstall first", change, filepath.Join(dir, kind, filepath.Base(files[0])))
		}
	}
	status, record := filepath.Join(dir, "provision.json"), filepath.Join(dir, recordFile)
	var pfs []json.RawMessage
	if _, err = n.host().readJSON(status, &pfs); err != nil || len(pfs) > 0 {
		return network.Invalid.Errorf("%s, and by %s PFs may be set up"+leave+"uninstall first", change, status)
	}
	var known struct{ Aside []move }
	if _, err = n.host().readJSON(record, &known); err == nil && len(known.Aside) > 0 {
		return network.Invalid.Errorf("%s, whose %s says which confs were moved aside (%s)"+leave+"uninstall first", change, record, known.Aside[0].From)
	}
	return nil
}

// sameRecords refuses to leave a cniDir with records of Multus that DEL needs.
func (n *Installer) sameRecords(old standing) error {
	config, _, err := n.settings().parse()
	dir := old.config.CNIDir
	if err != nil || n.sameDir(dir, config.CNIDir) {
		return err
	}
	change := fmt.Sprintf("cniDir is to be %s, and that of %s is %s", config.CNIDir, old.path, dir)
	// A container need not see the default one, in which there may never have been any.
	if dir != network.MultusRecords && n.Unseen != nil && n.Unseen(dir) {
		return network.Invalid.Errorf("%s, which cannot be seen from here: pods that Multus attached may still need its records there; leave it as it is, or uninstall first", change)
	}
	if n.Recorded == nil {
		return nil
	}
	container, err := n.Recorded(dir)
	if err == nil && container != "" {
		err = network.Invalid.Errorf("Multus recorded there what container %s has, and its networks would never be released; leave it as it is until that pod is deleted, or remove %s if it is gone", container, filepath.Join(dir, container))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", change, err)
	}
	return nil
}

// leaveState forgets an installation in a stateDir that is left, where
// nothingIn has found nothing: an uninstall that found its record would look for
// pods there.
func (n *Installer) leaveState() error {
	for _, old := range n.standing() {
		record := filepath.Join(old.config.StateDir, recordFile)
		if n.sameDir(old.config.StateDir, n.stateDir()) || !n.host().exists(record) {
			continue
		}
		if err := n.host().remove(record); err != nil {
			return err
		}
	}
	return nil
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

// SameBinDir refuses another directory of plugins than the one that the plugin
// is in, for an installation by hand: it would stay there for ever, and which of
// the two the runtime searches is not known.
func (n *Installer) SameBinDir() error {
	old, err := n.installed()
	if errors.Is(err, network.Malformed) {
		return nil // a record that was spoilt says nothing
	}
	if err != nil || old == nil || n.sameDir(old.BinDir, n.Paths.BinDir) {
		return err
	}
	plugin := filepath.Join(old.BinDir, PluginName)
	if !n.host().exists(plugin) {
		return nil
	}
	return network.Invalid.Errorf("the plugin is to go into %s, and by %s it is in %s, where it would stay for ever: install with --cni-bin-dir %s, or uninstall first, or remove %s if no runtime searches there", n.Paths.BinDir, n.recordPath(), old.BinDir, old.BinDir, plugin)
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
	if filepath.Clean(a) == filepath.Clean(b) {
		return true
	}
	one, err := os.Stat(n.host().at(a))
	if err != nil {
		return false
	}
	other, err := os.Stat(n.host().at(b))
	return err == nil && os.SameFile(one, other)
}
