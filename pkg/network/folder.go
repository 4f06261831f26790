package network

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
)

// ErrNoCluster says that the node has no cluster network (yet).
var ErrNoCluster = errors.New("the node has no cluster network")

// ErrChained says that the cluster network stands before multiplexer in the
// node's own list; it is an ErrNoCluster too.
var ErrChained = fmt.Errorf("%w of its own: it stands before multiplexer in the same list", ErrNoCluster)

// ConfExtensions are those of the files that a runtime takes for networks.
func ConfExtensions() []string { return []string{".conflist", ".conf", ".json"} }

// Folder reads the networks of a directory by the two functions that it is
// given: the plugin and the installer look at the same files from different
// places, and must choose the same.
type Folder struct {
	ReadDir  func(dir string) ([]fs.DirEntry, error)
	ReadFile func(path string) ([]byte, error)
}

// Files returns the CNI configuration files of a directory, sorted by name:
// those with one of the extensions. A directory that is not there has none.
func (f Folder) Files(dir string, extensions ...string) ([]string, error) {
	entries, err := f.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, IO.Errorf("read configuration directory: %w", err)
	}
	var files []string
	for _, e := range entries {
		if !e.IsDir() && slices.Contains(extensions, filepath.Ext(e.Name())) {
			files = append(files, filepath.Join(dir, e.Name()))
		}
	}
	slices.Sort(files)
	return files, nil
}

// More says when a list takes plugins from the folder of its name beside it
// (CNI 1.1 section 1, loadOnlyInlinedPlugins).
type More bool

const (
	// AlwaysMore is what libcni does: unless loadOnlyInlinedPlugins is true.
	AlwaysMore More = true
	// WhenAsked is only when it is false in so many words. In confDir such a
	// folder may be a namespace's, whose files must not change a network of all.
	WhenAsked More = false
)

// List reads one conf or conflist with its further plugins. The list is not
// yet validated.
func (f Folder) List(file string, when More) (*List, error) {
	raw, err := f.ReadFile(file)
	if err != nil {
		return nil, err
	}
	list, err := ParseList(file, "", raw)
	if err != nil {
		return nil, err
	}
	if list.InlineOnly || (when == WhenAsked && !list.MoreAsked) || ValidateNetworkName(file, list.Name) != nil {
		return list, nil
	}
	paths, err := f.Files(filepath.Join(filepath.Dir(file), list.Name), ".conf")
	if err != nil {
		return nil, err
	}
	for _, path := range paths {
		var plugin []byte
		if plugin, err = f.ReadFile(path); err != nil {
			return nil, err
		}
		if !json.Valid(plugin) {
			return nil, Malformed.Errorf("%s: not valid JSON, and part of network %q (%s)", path, list.Name, file)
		}
		if isNetwork(plugin) {
			continue
		}
		list.Plugins = append(list.Plugins, bytes.TrimSpace(plugin))
	}
	return list, nil
}

// isNetwork reports whether a conf has a name of its own. The folder beside a
// list may be a namespace's folder too, and then holds networks, which have
// names, beside plugins, which have none.
func isNetwork(conf []byte) bool {
	var named struct {
		Name string `json:"name"`
	}
	return json.Unmarshal(conf, &named) == nil && named.Name != ""
}

// FirstFit returns the first network of a directory, by file name, that is
// no meta-plugin's, and its file. A file before it that cannot be read ends
// the search: it may be the cluster network half written, and a pod on
// another network is worse than a pod that waits.
func (f Folder) FirstFit(dir string) (string, *List, error) {
	files, err := f.Files(dir, ConfExtensions()...)
	if err != nil {
		return "", nil, err
	}
	chained := false
	for _, file := range files {
		var list *List
		if list, err = f.List(file, AlwaysMore); err != nil {
			return "", nil, Again.Errorf("choose the cluster network in %s: %w; correct or remove the file, or name another in clusterNetwork", dir, err)
		}
		if first := slices.IndexFunc(list.Types(), MetaPlugin); first >= 0 {
			chained = chained || first > 0
			continue
		}
		if err = list.Validate(file); err != nil {
			return "", nil, fmt.Errorf("choose the cluster network in %s: %w", dir, err)
		}
		return file, list, nil
	}
	if chained {
		return "", nil, ErrChained
	}
	return "", nil, Again.Errorf("%w (yet): %s holds no .conflist, .conf or .json file but meta-plugins'; install the cluster's own network, or name it in clusterNetwork", ErrNoCluster, dir)
}
