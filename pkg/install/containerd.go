package install

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// containerdPlace is where a distribution keeps containerd's configuration.
type containerdPlace struct {
	file, socket    string
	confDir, binDir string // used where the file says nothing
}

// containerdPlaces are the ones that are looked for, k3s's and RKE2's own
// before the usual.
func containerdPlaces() []containerdPlace {
	return []containerdPlace{
		{"/var/lib/rancher/k3s/agent/etc/containerd/config.toml", "/run/k3s/containerd/containerd.sock", k3sConfDir, "/var/lib/rancher/k3s/data/cni"},
		{"/var/lib/rancher/rke2/agent/etc/containerd/config.toml", "/run/k3s/containerd/containerd.sock", defaultConfDir, defaultBinDir},
		{"/etc/containerd/config.toml", "/run/containerd/containerd.sock", defaultConfDir, defaultBinDir},
	}
}

const k3sConfDir = "/var/lib/rancher/k3s/agent/etc/cni/net.d"

// criTables are where a containerd configuration keeps what concerns CNI: of
// version 1, of 2, and of 3 and later. A later one counts more.
func criTables() []string {
	return []string{"cri", "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime"}
}

// containerds returns the containerds of the node that serve Kubernetes.
func (h host) containerds() ([]candidate, error) {
	var found []candidate
	for _, place := range containerdPlaces() {
		c, err := h.containerd(place)
		if err != nil {
			return nil, err
		}
		if c != nil {
			found = append(found, *c)
		}
	}
	if len(found) == 0 && h.exists(k3sConfDir) {
		found = append(found, h.withoutHash(candidate{
			runtime: network.Containerd, source: k3sConfDir, confDir: k3sConfDir, binDirs: []string{"/var/lib/rancher/k3s/data/cni"},
		}))
	}
	return found, nil
}

func (h host) containerd(place containerdPlace) (*candidate, error) {
	c := &candidate{
		runtime: network.Containerd, source: place.file, confDir: place.confDir, binDirs: []string{place.binDir}, live: h.exists(place.socket),
	}
	pending := []string{place.file}
	if !h.exists(place.file) {
		// containerd 2.2 and later read these by themselves, if there is no file.
		pending = h.glob(filepath.Join(filepath.Dir(place.file), "conf.d", "*.toml"))
		if len(pending) == 0 && (!c.live || place.confDir == k3sConfDir) {
			return nil, nil
		}
	}
	off := false
	for seen := map[string]bool{}; len(pending) > 0; {
		file := pending[0]
		if pending = pending[1:]; seen[file] {
			continue
		}
		seen[file] = true
		t, err := h.readTOML(file)
		if err != nil {
			return nil, fmt.Errorf("containerd's configuration: %w", err)
		}
		disabled := t.texts("disabled_plugins")
		off = off || slices.ContainsFunc(criTables(), func(id string) bool { return slices.Contains(disabled, id) })
		for _, id := range criTables() {
			c.takeContainerd(file, t.in("plugins", id))
		}
		for _, path := range t.texts("imports") {
			if !filepath.IsAbs(path) {
				path = filepath.Join(filepath.Dir(file), path)
			}
			pending = append(pending, h.glob(path)...)
		}
	}
	if off { // Docker's, for one
		return nil, nil
	}
	out := h.withoutHash(*c)
	return &out, nil
}

// takeContainerd takes over what one table says about CNI.
func (c *candidate) takeContainerd(file string, cri table) {
	cni := cri.in("cni")
	if dir := cni.text("conf_dir"); dir != "" {
		c.confDir = dir
	}
	if dir := cni.text("bin_dir"); dir != "" {
		c.binDirs = []string{dir}
	}
	if dirs := cni.texts("bin_dirs"); len(dirs) > 0 {
		c.binDirs = dirs
	}
	if n, ok := cni["max_conf_num"].(int64); ok && n != 1 {
		c.warnings = append(c.warnings, fmt.Sprintf("%s: cni.max_conf_num is %d: containerd attaches each pod to several files' networks, and with multiplexer to the cluster network twice; set it to 1 and restart containerd", file, n))
	}
	runtimes := cri.in("containerd", "runtimes")
	for _, name := range slices.Sorted(maps.Keys(runtimes)) {
		if dir := runtimes.in(name).text("cni_conf_dir"); dir != "" && dir != c.confDir {
			c.warnings = append(c.warnings, fmt.Sprintf("%s: pods of the runtime handler %q get their network from %s: multiplexer does not serve them", file, name, dir))
		}
	}
}

// withoutHash replaces the bin directory of k3s before October 2024, whose
// path changes with every upgrade, by the link that follows it.
func (h host) withoutHash(c candidate) candidate {
	for i, dir := range c.binDirs {
		data, rest, ok := strings.Cut(dir, "/data/")
		hash, last, _ := strings.Cut(rest, "/")
		current := data + "/data/current/bin"
		old := ok && last == "bin" && len(hash) == 64
		gone := rest == "cni" && !h.exists(dir)
		if (old || gone) && h.exists(current) {
			c.binDirs[i] = current
			c.warnings = append(c.warnings, current+" is replaced when k3s is upgraded: the agent installs the plugin again then; k3s since October 2024 has a directory that stays")
		}
	}
	return c
}

// glob returns the node's files that match, or the path itself.
func (h host) glob(path string) []string {
	if !strings.Contains(path, "*") {
		return []string{filepath.Clean(path)}
	}
	matches, err := filepath.Glob(h.at(path))
	if err != nil {
		return nil // not a pattern: containerd has no such import either
	}
	for i, match := range matches {
		matches[i] = filepath.Join("/", strings.TrimPrefix(match, h.at("/")))
	}
	return matches
}
