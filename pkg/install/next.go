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
func (n *Installer) next() (successor, error) {
	h := n.host()
	files, err := h.others().Files(n.Paths.ConfDir, network.ConfExtensions()...)
	if err != nil {
		return successor{}, err
	}
	if len(files) == 0 {
		return successor{"no other conf is there: new pods wait for the cluster network's", true}, nil
	}
	list, err := h.folder().List(files[0], network.AlwaysMore)
	if err != nil {
		return successor{fmt.Sprintf("%s is first now, and cannot be read: %v", files[0], err), true}, nil
	}
	if !slices.ContainsFunc(list.Types(), network.MetaPlugin) {
		return successor{text: fmt.Sprintf("the cluster network is first again: %s (network %q)", files[0], list.Name)}, nil
	}
	types := strings.Join(list.Types(), ", ")
	if plugin := n.lacks(list); plugin != "" {
		return successor{}, network.Invalid.Errorf("%s would be the first conf without ours, and its plugin %q is not in %s: no pod could start, so ours stays; remove that file if nobody uses it any more, then uninstall again", files[0], plugin, n.Paths.BinDir)
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

// lacks returns the first plugin of a list whose executable is not where ours
// is, or "".
func (n *Installer) lacks(list *network.List) string {
	for _, plugin := range list.Types() {
		if !n.host().exists(filepath.Join(n.Paths.BinDir, plugin)) {
			return plugin
		}
	}
	return ""
}
