package plan

import (
	"os"
	"path/filepath"
	"slices"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// onDisk reads the node's own files.
func onDisk() network.Folder { return network.Folder{ReadDir: os.ReadDir, ReadFile: readRegular} }

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

func readFolder(dir string, when network.More) (*folder, error) {
	var f folder
	for _, extensions := range [][]string{{".conflist"}, {".conf", ".json"}} {
		paths, err := onDisk().Files(dir, extensions...)
		if err != nil {
			return nil, err
		}
		for _, path := range paths {
			if list, rerr := onDisk().List(path, when); rerr != nil {
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
	today, err := onDisk().List(a.Source, network.WhenAsked)
	return err == nil && today.DisableGC
}
