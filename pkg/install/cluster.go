package install

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// Cluster is the cluster network that a conf is made for.
type Cluster struct {
	Path string // its file; "" where the options hold it inline (delegates)
	List *network.List
}

// cluster finds the cluster network by the plugin's own rule: what the
// options name, else the first file that is no meta-plugin's. An ErrNoCluster
// may be gone with the next change of the directory.
func (h host) cluster(options *network.Config, confDir string) (Cluster, error) {
	ref, dir := options.ClusterNetwork, confDir
	switch {
	case len(options.Delegates) > 0:
		list, err := network.ParseList("delegates[0]", "", options.Delegates[0])
		if err == nil {
			err = list.Validate("delegates[0]")
		}
		return Cluster{List: list}, err
	case ref != "" && !filepath.IsAbs(ref):
		return h.namedCluster(ref, confDir)
	case ref != "":
		info, err := os.Stat(h.at(ref))
		if err != nil {
			return Cluster{}, network.Again.Errorf("%w (yet): clusterNetwork: %w", network.ErrNoCluster, err)
		}
		if !info.IsDir() {
			return h.clusterFile(ref)
		}
		dir = ref
	}
	path, list, err := h.others().FirstFit(dir)
	return Cluster{path, list}, err
}

// others reads the node's configurations without ours, which somebody may
// have spoilt.
func (h host) others() network.Folder {
	all := h.folder()
	return network.Folder{ReadFile: all.ReadFile, ReadDir: func(dir string) ([]fs.DirEntry, error) {
		entries, err := all.ReadDir(dir)
		return slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return e.Name() == ConfName }), err
	}}
}

func (h host) clusterFile(path string) (Cluster, error) {
	list, err := h.folder().List(path, network.AlwaysMore)
	if err == nil {
		err = list.Validate(path)
	}
	if err != nil {
		return Cluster{}, network.Again.Errorf("clusterNetwork: %w", err)
	}
	return Cluster{path, list}, nil
}

// namedCluster finds the network of a name. Our own conf has it too.
func (h host) namedCluster(name, confDir string) (Cluster, error) {
	files, err := h.others().Files(confDir, network.ConfExtensions()...)
	if err != nil {
		return Cluster{}, err
	}
	for _, file := range files {
		list, rerr := h.folder().List(file, network.AlwaysMore)
		if rerr != nil || list.Name != name || slices.ContainsFunc(list.Types(), network.MetaPlugin) {
			continue
		}
		if err = list.Validate(file); err != nil {
			return Cluster{}, fmt.Errorf("clusterNetwork: %w", err)
		}
		return Cluster{file, list}, nil
	}
	return Cluster{}, network.Again.Errorf("%w (yet): clusterNetwork %q is the name of no network in %s; a NetworkAttachmentDefinition's name does not do here, since the runtime must know the name inside: give the path of a file",
		network.ErrNoCluster, name, confDir)
}
