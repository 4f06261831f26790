package plan

import (
	"context"
	"path/filepath"
	"slices"
	"strings"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// Dir finds networks in the node's own directory:
//
//	path/*.conflist, *.conf, *.json             shared: the networks of the global namespaces
//	path/NAMESPACE/*.conflist, *.conf, *.json   the networks of one namespace
//
// A network is found by the "name" inside its file. A name without a
// namespace means the pod's own namespace, then the shared networks.
//
// It reads each directory once: a Dir is one call's view of the files.
type Dir struct {
	path      string
	isolation network.Isolation
	folders   map[string]*folder
}

// NewDir returns the networks below path.
func NewDir(path string, isolation network.Isolation) *Dir {
	return &Dir{path: path, isolation: isolation, folders: map[string]*folder{}}
}

// Definition implements Definitions.
func (d *Dir) Definition(_ context.Context, podNamespace, namespace, name string) (*Definition, error) {
	if namespace == "" {
		return d.first(name, d.folder(podNamespace), d.shared())
	}
	if slices.Contains(d.isolation.Global, namespace) {
		return d.first(name, d.folder(namespace), d.shared())
	}
	return d.first(name, d.folder(namespace))
}

// place is one directory to look in, and what precedes a name found there.
type place struct {
	dir    string
	prefix string
}

func (d *Dir) folder(namespace string) place {
	return place{filepath.Join(d.path, filepath.Base(namespace)), namespace + "/"}
}

func (d *Dir) shared() place { return place{dir: d.path} }

func (d *Dir) first(name string, places ...place) (*Definition, error) {
	var dirs []string
	var broken []error
	for _, p := range places {
		folder, err := d.read(p.dir)
		if err != nil {
			return nil, err
		}
		found, err := folder.find(name)
		if err != nil {
			return nil, err
		}
		if found == nil {
			dirs, broken = append(dirs, p.dir), append(broken, folder.broken...)
			continue
		}
		if p.prefix == "" && d.isolation.On && len(d.isolation.Global) == 0 {
			return nil, network.Invalid.Errorf("network %q is shared (%s), and no namespace's networks are open to all: name one in globalNamespaces, or move the file to the folder of the pod's namespace", name, found.path)
		}
		return &Definition{Reference: p.prefix + name, Source: found.path, List: found.list}, nil
	}
	return nil, NoDefinition("no network of the name %q in %s: add a .conflist, .conf or .json file whose \"name\" is %q, or correct the name that is asked for%s",
		name, strings.Join(dirs, " or "), name, unreadable(broken))
}

func (d *Dir) read(dir string) (*folder, error) {
	if known, ok := d.folders[dir]; ok {
		return known, nil
	}
	read, err := readFolder(dir, network.WhenAsked)
	if err == nil {
		d.folders[dir] = read
	}
	return read, err
}
