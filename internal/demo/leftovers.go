package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// stateDir is multiplexer's own, at its default place.
const stateDir = "/var/lib/cni/multiplexer"

// snapshot writes down all that a CNI plugin could leave on the node or in the
// pods' namespaces.
func snapshot(node *nettest.Node, pods ...*sandbox) (string, error) {
	namespaces := map[string]string{"node": node.Path()}
	for _, pod := range pods {
		namespaces[pod.id] = pod.Path()
	}
	return nettest.Snapshot(nettest.SnapshotOptions{
		Namespaces: namespaces,
		Dirs: []nettest.SnapshotDir{
			{Path: "/etc/cni", Files: nettest.FileHash},
			{Path: "/var/lib/cni"},
			{Path: "/run/cni"},
		},
	})
}

// kept is what a node has when all its pods are gone.
type kept struct {
	bridges []string // the plugin "bridge" keeps its bridges
	leases  []string // of networks: host-local keeps a lock and the address it gave out last
	journal []string // of multiplexer: must be empty
	other   []string // must be empty too
}

func readKept(node *nettest.Node, cables []string) (kept, error) {
	var k kept
	handle, err := node.Handle()
	if err != nil {
		return k, err
	}
	links, err := handle.LinkList()
	if err != nil {
		return k, fmt.Errorf("list links of the node: %w", err)
	}
	for _, link := range links {
		name := link.Attrs().Name
		_, isBridge := link.(*netlink.Bridge)
		switch {
		case isBridge:
			k.bridges = append(k.bridges, name)
		case name != "lo" && !slices.Contains(cables, name):
			k.other = append(k.other, "link "+name)
		}
	}
	for _, dir := range []string{"/var/lib/cni", "/run/cni"} {
		err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, walkErr error) error {
			if walkErr == nil && !entry.IsDir() {
				k.sort(path)
			}
			return walkErr
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return k, fmt.Errorf("list %s: %w", dir, err)
		}
	}
	return k, nil
}

func (k *kept) sort(path string) {
	name := filepath.Base(path)
	switch {
	case strings.HasPrefix(path, "/var/lib/cni/networks/") && (name == "lock" || strings.HasPrefix(name, "last_reserved_ip.")):
		k.leases = append(k.leases, filepath.Base(filepath.Dir(path)))
	case strings.HasPrefix(path, stateDir+"/journal/"):
		k.journal = append(k.journal, path)
	default:
		k.other = append(k.other, "file "+path)
	}
}

// unexpected lists what nobody keeps on purpose.
func (k *kept) unexpected() []string {
	var lines []string
	for _, path := range k.journal {
		lines = append(lines, "left: journal "+path)
	}
	for _, what := range k.other {
		lines = append(lines, "left: "+what)
	}
	return lines
}

// String says who keeps what on purpose.
func (k *kept) String() string {
	return "bridge      " + strings.Join(k.bridges, ", ") + "\n" +
		"host-local  its lock and the last address of " + strings.Join(slices.Compact(k.leases), ", ")
}
