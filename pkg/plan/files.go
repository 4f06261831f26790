package plan

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// confFiles returns the CNI configuration files of a directory, sorted by
// name: those with one of the extensions, which libcni reads too.
func confFiles(dir string, extensions ...string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, network.IO.Errorf("read configuration directory: %w", err)
	}
	var files []string
	for _, e := range entries {
		if !e.IsDir() && slices.Contains(extensions, filepath.Ext(e.Name())) {
			files = append(files, filepath.Join(dir, e.Name()))
		}
	}
	return files, nil
}

// readRegular reads a file, and nothing that could block or never end.
func readRegular(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, network.IO.Errorf("read network configuration: %w", err)
	case !info.Mode().IsRegular():
		return nil, network.Invalid.Errorf("%s: is no regular file", path)
	case info.Size() > network.MaxDefinition:
		return nil, network.Invalid.Errorf("%s: %d bytes, at most %d are read", path, info.Size(), network.MaxDefinition)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, network.IO.Errorf("read network configuration: %w", err)
	}
	return raw, nil
}

// more says when a list takes plugins from the folder of its name beside it
// (CNI 1.1 section 1, loadOnlyInlinedPlugins).
type more bool

const (
	// alwaysMore: unless loadOnlyInlinedPlugins is true, as libcni does.
	alwaysMore more = true
	// whenAsked: only when it is false in so many words. In confDir such a
	// folder may be a namespace's, whose files must not change a network of all.
	whenAsked more = false
)

// readList reads one conf or conflist with its further plugins. The list is
// not yet validated.
func readList(file string, when more) (*network.List, error) {
	raw, err := readRegular(file)
	if err != nil {
		return nil, err
	}
	list, err := network.ParseList(file, "", raw)
	if err != nil {
		return nil, err
	}
	if list.InlineOnly || (when == whenAsked && !list.MoreAsked) || network.ValidateNetworkName(file, list.Name) != nil {
		return list, nil
	}
	folder := filepath.Join(filepath.Dir(file), list.Name)
	paths, err := confFiles(folder, ".conf")
	if err != nil {
		return nil, err
	}
	for _, f := range paths {
		var plugin []byte
		if plugin, err = readRegular(f); err != nil {
			return nil, err
		}
		if !json.Valid(plugin) {
			return nil, network.Malformed.Errorf("%s: not valid JSON, and part of network %q (%s)", f, list.Name, file)
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

// folder is what one directory's files hold, in the order in which a name is
// looked for: .conflist files first, then .conf and .json (NPWG 3.4.1). A
// broken neighbour harms nobody.
type folder struct {
	files  []file
	broken []error // files that could not be read
}

type file struct {
	path string
	list *network.List
}

func readFolder(dir string, when more) (*folder, error) {
	var f folder
	for _, extensions := range [][]string{{".conflist"}, {".conf", ".json"}} {
		paths, err := confFiles(dir, extensions...)
		if err != nil {
			return nil, err
		}
		for _, path := range paths {
			if list, rerr := readList(path, when); rerr != nil {
				f.broken = append(f.broken, rerr)
			} else {
				f.files = append(f.files, file{path, list})
			}
		}
	}
	return &f, nil
}

// find returns the first network of that name, validated, or nil. Its list
// is the caller's own.
func (f *folder) find(name string) (*file, error) {
	for _, found := range f.files {
		if found.list.Name != name {
			continue
		}
		list := *found.list
		list.Plugins = slices.Clone(list.Plugins)
		return &file{found.path, &list}, list.Validate(found.path)
	}
	return nil, nil
}

// DisablesGC reports whether a network asks not to be collected: as it was
// attached, or as its file says today.
func DisablesGC(a *network.Attachment) bool {
	if a.DisableGC {
		return true
	}
	if !filepath.IsAbs(a.Source) {
		return false
	}
	today, err := readList(a.Source, whenAsked)
	return err == nil && today.DisableGC
}
