package install

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// successor says who serves the pods after our conf.
type successor struct {
	text string
	warn bool // somebody has to see that pods will start
}

// next looks at the file that the runtime reads when ours is gone. One that
// Multus or another meta-plugin left behind when it was deleted would end the
// node: no pod starts by it.
func (n *Installer) next(r Removal) (successor, error) {
	h := n.host()
	files, err := h.others().Files(n.Paths.ConfDir, network.ConfExtensions()...)
	if err != nil {
		return successor{}, err
	}
	if len(files) == 0 {
		s := successor{"no other conf is there: new pods wait for the cluster network's", true}
		err = n.onlyByOurs()
		switch {
		case err != nil && r.Detach != nil:
			s.text += " (" + err.Error() + ")"
			return s, nil
		case err != nil:
			err = fmt.Errorf("%w, or use %s", err, r.force())
		}
		return s, err
	}
	list, err := h.folder().List(files[0], network.AlwaysMore)
	if err != nil {
		return successor{fmt.Sprintf("%s is first now, and cannot be read: %v", files[0], err), true}, nil
	}
	if !slices.ContainsFunc(list.Types(), network.MetaPlugin) {
		return successor{text: fmt.Sprintf("the cluster network is first again: %s (network %q)", files[0], list.Name)}, nil
	}
	types := strings.Join(list.Types(), ", ")
	if lacks := n.lacks(list); lacks != "" {
		return successor{}, network.Invalid.Errorf("%s would be the first conf without ours, and %s: no pod could start, so ours stays; remove that file if nobody uses it any more, then uninstall again", files[0], lacks)
	}
	return successor{fmt.Sprintf("%s (%s) is first now: if that does not run on this node any more, remove the file, or no pod starts", files[0], types), true}, nil
}

// MultusIsNext reports whether Multus serves the pods after our conf: then it
// detaches those that it attached. `restored` are its confs that were moved aside
// and get their names back.
func (n *Installer) MultusIsNext(restored bool) bool {
	h := n.host()
	files, err := h.others().Files(n.Paths.ConfDir, network.ConfExtensions()...)
	if err != nil {
		return false
	}
	files = files[:min(len(files), 1)]
	var known record
	if _, err = h.readJSON(n.recordPath(), &known); err == nil && restored {
		for _, m := range known.Aside {
			files = append(files, m.To)
		}
	}
	return slices.ContainsFunc(files, func(file string) bool {
		list, lerr := h.folder().List(file, network.AlwaysMore)
		return lerr == nil && slices.ContainsFunc(list.Types(), multusType)
	})
}

// onlyByOurs refuses to remove a conf that alone leads to a cluster network: the
// runtime does not read what clusterNetwork names elsewhere, as migrate writes
// it, nor what is inline. A path that is not there is no hindrance: that network
// has gone by itself.
func (n *Installer) onlyByOurs() error {
	placed, err := FindPlaced(n.Root, n.Paths.ConfDir)
	if err != nil || placed == nil {
		return nil // one that was spoilt leads nowhere
	}
	config, err := network.ParseForDEL(placed.Entry)
	if err != nil {
		return nil
	}
	const stays = "without ours no pod could start, so it stays; put the cluster network's file into %s first, then uninstall again"
	ref, dir := config.ClusterNetwork, n.Paths.ConfDir
	switch {
	case len(config.Delegates) > 0:
		return network.Invalid.Errorf("no other conf is in %s, and the cluster network is inline in ours (delegates[0]): "+stays, dir, dir)
	case !filepath.IsAbs(ref) || filepath.Clean(ref) == filepath.Clean(dir):
		return nil
	case n.Unseen != nil && n.Unseen(ref):
		return network.Invalid.Errorf("no other conf is in %s, and whether clusterNetwork %q of ours is still there cannot be seen from here: "+stays+", or run multiplexerd uninstall on the node", dir, ref, dir)
	case n.host().exists(ref):
		return network.Invalid.Errorf("no other conf is in %s, and the runtime does not read clusterNetwork %q of ours: "+stays, dir, ref, dir)
	}
	return nil
}

// lacks says which plugin of a list the runtime would not find, or "".
func (n *Installer) lacks(list *network.List) string {
	dirs := []string{n.Paths.BinDir}
	for _, dir := range n.Search {
		if !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	for _, plugin := range list.Types() {
		if slices.ContainsFunc(dirs, func(dir string) bool { return n.host().exists(filepath.Join(dir, plugin)) }) {
			continue
		}
		lacks := fmt.Sprintf("its plugin %q is not in %s", plugin, strings.Join(dirs, " or "))
		if n.Search == nil {
			lacks += " (no other directory was looked at: if the runtime searches more, run multiplexerd uninstall on the node, without --cni-bin-dir)"
		}
		return lacks
	}
	return ""
}
