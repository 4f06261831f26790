package install

import (
	"encoding/json"
	"path/filepath"
	"slices"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// Placed is multiplexer's own entry in a file of the runtime's directory, be
// it ours or one that somebody wrote by hand.
type Placed struct {
	Path  string        // the file
	List  *network.List // all of it
	Entry []byte        // multiplexer's part, as the runtime hands it to the plugin
	Index int           // its place in the list
}

// FindPlaced returns multiplexer's entry in a directory of the node: of our
// file, else of the first that has one; nil where none has. A file that cannot
// be read is passed over unless it is ours.
func FindPlaced(root, confDir string) (*Placed, error) {
	folder := host{root: root}.folder()
	files, err := folder.Files(confDir, network.ConfExtensions()...)
	if err != nil {
		return nil, err
	}
	own := filepath.Join(confDir, ConfName)
	if i := slices.Index(files, own); i > 0 {
		files = slices.Insert(slices.Delete(files, i, i+1), 0, own)
	}
	for _, file := range files {
		list, rerr := folder.List(file, network.AlwaysMore)
		if rerr != nil && file == own {
			return nil, rerr
		}
		if rerr != nil {
			continue
		}
		if i := slices.Index(list.Types(), PluginName); i >= 0 {
			entry, eerr := entryAsSent(list, i)
			return &Placed{Path: file, List: list, Entry: entry, Index: i}, eerr
		}
	}
	return nil, nil
}

// entryAsSent adds what a runtime adds: the list's name and version.
func entryAsSent(list *network.List, i int) ([]byte, error) {
	keys := map[string]json.RawMessage{}
	if err := json.Unmarshal(list.Plugins[i], &keys); err != nil {
		return nil, network.Malformed.Errorf("multiplexer's entry: %w", err)
	}
	for key, value := range map[string]string{"name": list.Name, "cniVersion": list.CNIVersion} {
		raw, err := json.Marshal(value)
		if err != nil {
			return nil, network.Malformed.Errorf("multiplexer's entry: %w", err)
		}
		keys[key] = raw
	}
	return json.Marshal(keys)
}

// Options are the operator's keys of the entry: what Settings.Options were, as
// far as a conf tells.
func (p *Placed) Options() (json.RawMessage, error) {
	keys := map[string]json.RawMessage{}
	if err := json.Unmarshal(p.Entry, &keys); err != nil {
		return nil, network.Malformed.Errorf("multiplexer's entry: %w", err)
	}
	for _, key := range written() {
		delete(keys, key)
	}
	if keys["delegates"] != nil {
		delete(keys, "clusterNetwork")
	}
	return json.Marshal(keys)
}
