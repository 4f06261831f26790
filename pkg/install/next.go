package install

import (
	"fmt"
	"maps"
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
	s, first := successor{"no other conf is there: new pods wait for the cluster network's", true}, "no other conf is in "+n.Paths.ConfDir
	var list *network.List // nil where it cannot be read
	if len(files) > 0 {
		if list, err = h.folder().List(files[0], network.AlwaysMore); err != nil {
			s.text, first = fmt.Sprintf("%s is first now, and cannot be read: %v", files[0], err), files[0]+" would be the first conf without ours and cannot be read"
		}
	}
	placed, err := FindPlaced(n.Root, n.Paths.ConfDir)
	if err != nil || list != nil && placed != nil && list.Name == placed.List.Name {
		placed = nil // one that was spoilt leads nowhere; the name is the cluster network's
	}
	if list != nil {
		lacks := n.lacks(list)
		if slices.ContainsFunc(list.Types(), network.MetaPlugin) {
			return nextMeta(files[0], list, lacks)
		}
		first = fmt.Sprintf("%s (network %q)", files[0], list.Name)
		if s = (successor{text: "the cluster network is first again: " + first}); placed != nil {
			s = successor{"first now: " + first + ", which is not the network that our conf was made for: see that pods start by it", true}
		}
		if first += " would be the first conf without ours"; lacks != "" {
			s = successor{s.text + ", but " + lacks + ", and no pod starts without", true}
		}
	}
	lost := n.onlyByOurs(placed, first)
	if lost != nil && r.Detach != nil {
		return successor{s.text + " (" + lost.Error() + ")", true}, nil
	}
	if lost != nil {
		lost = fmt.Errorf("%w, or use %s", lost, r.force())
	}
	return s, lost
}

// nextMeta is about a conf of another meta-plugin.
func nextMeta(file string, list *network.List, lacks string) (successor, error) {
	if lacks != "" {
		return successor{}, network.Invalid.Errorf("%s would be the first conf without ours, and %s: no pod could start, so ours stays; remove that file if nobody uses it any more, then uninstall again", file, lacks)
	}
	return successor{fmt.Sprintf("%s (%s) is first now: if that does not run on this node any more, remove the file, or no pod starts", file, strings.Join(list.Types(), ", ")), true}, nil
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
	is := map[string]string{} // a file's name to be, and its name now
	for _, file := range files {
		is[file] = file
	}
	var known record
	if _, err = h.readJSON(n.recordPath(), &known); err == nil && restored {
		for _, m := range slices.Backward(known.Aside) { // as restore does it
			if is[m.From] == "" && h.exists(m.To) && !h.exists(m.From) && filepath.Dir(m.From) == n.Paths.ConfDir && slices.Contains(network.ConfExtensions(), filepath.Ext(m.From)) {
				is[m.From] = m.To
			}
		}
	}
	if len(is) == 0 {
		return false
	}
	list, err := h.folder().List(is[slices.Min(slices.Collect(maps.Keys(is)))], network.AlwaysMore)
	return err == nil && slices.ContainsFunc(list.Types(), multusType)
}

// onlyByOurs refuses to remove a conf that alone leads to a cluster network: the
// runtime does not read what clusterNetwork names elsewhere, as migrate writes
// it, nor what is inline. A path that is not there is no hindrance: that network
// has gone by itself. `first` says what the runtime would read instead.
func (n *Installer) onlyByOurs(placed *Placed, first string) error {
	if placed == nil {
		return nil
	}
	config, err := network.ParseForDEL(placed.Entry)
	if err != nil {
		return nil // one that was spoilt leads nowhere
	}
	const stays = "without ours no pod could start on it, so ours stays; put the cluster network's file into %s, under a name that sorts first, then uninstall again"
	ref, dir := config.ClusterNetwork, n.Paths.ConfDir
	switch {
	case len(config.Delegates) > 0:
		return network.Invalid.Errorf("%s, and the cluster network is inline in ours (delegates[0]): "+stays, first, dir)
	case !filepath.IsAbs(ref) || n.sameDir(ref, dir) || n.sameDir(filepath.Dir(ref), dir) && slices.Contains(network.ConfExtensions(), filepath.Ext(ref)):
		return nil
	case n.Unseen != nil && n.Unseen(ref):
		return network.Invalid.Errorf("%s, and whether clusterNetwork %q of ours is still there cannot be seen from here: "+stays+", or run multiplexerd uninstall on the node", first, ref, dir)
	case n.host().exists(ref):
		return network.Invalid.Errorf("%s, and the runtime does not read clusterNetwork %q of ours: "+stays, first, ref, dir)
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
