package install

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

const (
	crioFile    = "/etc/crio/crio.conf"
	crioFolder  = "/etc/crio/crio.conf.d"
	crioSocket  = "/run/crio/crio.sock"
	crioUnnamed = "" // cni_default_network: the first file counts
)

// crio returns CRI-O as its files describe it, nil where there are none. The
// files of the folder count more than the main one, a later name more than an
// earlier one.
func (h host) crio() (*candidate, error) {
	var files []string
	if h.exists(crioFile) {
		files = append(files, crioFile)
	}
	entries, err := os.ReadDir(h.at(crioFolder))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, network.IO.Errorf("CRI-O's configuration: %w", err)
	}
	for _, e := range entries {
		if !e.IsDir() {
			files = append(files, filepath.Join(crioFolder, e.Name()))
		}
	}
	if len(files) == 0 {
		return nil, nil
	}
	c := &candidate{
		runtime: network.CRIO, source: files[0], confDir: defaultConfDir, binDirs: []string{defaultBinDir}, live: h.exists(crioSocket),
	}
	named := crioUnnamed
	for _, file := range files {
		t, rerr := h.readTOML(file)
		if rerr != nil {
			return nil, fmt.Errorf("CRI-O's configuration: %w", rerr)
		}
		cni := t.in("crio", "network")
		if dir := cni.text("network_dir"); dir != "" {
			c.confDir = filepath.Clean(dir)
		}
		if dir := cni.text("plugin_dir"); dir != "" {
			c.binDirs = []string{filepath.Clean(dir)}
		}
		if dirs := cni.texts("plugin_dirs"); len(dirs) > 0 {
			c.binDirs = dirs
		}
		if name, ok := cni["cni_default_network"].(string); ok {
			named = name
		}
	}
	if named != crioUnnamed {
		c.warnings = append(c.warnings, fmt.Sprintf("CRI-O takes the network named %q (cni_default_network): multiplexer serves its pods if that is the cluster network's name", named))
	}
	return c, nil
}
