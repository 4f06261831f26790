package install

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// Where a runtime looks if nobody says otherwise.
const (
	defaultConfDir = "/etc/cni/net.d"
	defaultBinDir  = "/opt/cni/bin"
)

// Paths are where the node's runtime looks for networks and plugins: the
// node's own paths, wherever this process sees them.
type Paths struct {
	ConfDir string
	BinDir  string
	Runtime string // network.Containerd, network.CRIO, or "" where nobody knows
	Source  string // the file that says so, or "the defaults"

	// Warnings are about the runtime's configuration: what keeps multiplexer
	// from serving all pods, or serves them twice.
	Warnings []string
}

// Given is what the operator said. It counts more than what is found.
type Given struct {
	ConfDir, BinDir, Runtime string
}

// candidate is a runtime of the node.
type candidate struct {
	runtime, source string
	confDir         string
	binDirs         []string // in the order in which the runtime searches
	live            bool     // its socket is there
	warnings        []string
}

// Detect finds out where the runtime looks. `root` is where the node's
// directories are mounted ("/" on the node itself); in a container they may
// be missing, and then what is given counts, and the defaults.
func Detect(root string, given Given) (Paths, error) {
	if err := given.validate(); err != nil {
		return Paths{}, err
	}
	h := host{root: root, log: slog.New(slog.DiscardHandler)}
	found, err := h.runtimes()
	if err != nil {
		if given.ConfDir == "" || given.BinDir == "" {
			return Paths{}, fmt.Errorf("find the runtime's directories: %w; correct it, or set --cni-conf-dir and --cni-bin-dir", err)
		}
		return Paths{ConfDir: given.ConfDir, BinDir: given.BinDir, Runtime: given.Runtime, Source: "flags", Warnings: []string{err.Error()}}, nil
	}
	c, err := choose(found, given)
	if err != nil {
		return Paths{}, err
	}
	p := Paths{ConfDir: c.confDir, BinDir: h.binDir(c.binDirs), Runtime: c.runtime, Source: c.source, Warnings: c.warnings}
	return p.with(given)
}

func (h host) runtimes() ([]candidate, error) {
	found, err := h.containerds()
	if err != nil {
		return nil, err
	}
	crio, err := h.crio()
	if err != nil {
		return nil, err
	}
	if crio != nil {
		found = append(found, *crio)
	}
	return found, nil
}

// choose takes the one runtime that serves the node, or the defaults.
func choose(found []candidate, given Given) (candidate, error) {
	if given.Runtime != "" {
		found = slices.DeleteFunc(found, func(c candidate) bool { return c.runtime != given.Runtime })
	}
	if running := slices.DeleteFunc(slices.Clone(found), func(c candidate) bool { return !c.live }); len(running) > 0 {
		found = running
	}
	switch {
	case len(found) == 0, len(found) > 1 && given.ConfDir != "" && given.BinDir != "":
		return candidate{runtime: given.Runtime, source: "the defaults", confDir: defaultConfDir, binDirs: []string{defaultBinDir}}, nil
	case len(found) == 1:
		return found[0], nil
	}
	var sources []string
	for _, c := range found {
		sources = append(sources, c.runtime+" ("+c.source+")")
	}
	return candidate{}, network.Invalid.Errorf("find the runtime's directories: the node has the configurations of %s: set --runtime to the one that kubelet uses, or --cni-conf-dir and --cni-bin-dir", strings.Join(sources, " and "))
}

// binDir returns where the plugin goes: into the directory that has it
// already, since the runtime takes the first; else the first one that is there.
func (h host) binDir(dirs []string) string {
	for _, dir := range dirs {
		if h.exists(filepath.Join(dir, PluginName)) {
			return dir
		}
	}
	if i := slices.IndexFunc(dirs, h.exists); i >= 0 {
		return dirs[i]
	}
	return dirs[0]
}

func (p Paths) with(given Given) (Paths, error) {
	for _, one := range []struct {
		value *string
		given string
	}{{&p.ConfDir, given.ConfDir}, {&p.BinDir, given.BinDir}, {&p.Runtime, given.Runtime}} {
		if one.given != "" {
			*one.value = one.given
		}
	}
	p.ConfDir, p.BinDir = filepath.Clean(p.ConfDir), filepath.Clean(p.BinDir)
	if given.ConfDir != "" && given.BinDir != "" {
		p.Source = "flags"
	}
	for _, dir := range []string{p.ConfDir, p.BinDir} {
		if !filepath.IsAbs(dir) {
			return p, network.Invalid.Errorf("%s: the directory %q is no absolute path: set --cni-conf-dir and --cni-bin-dir", p.Source, dir)
		}
	}
	return p, nil
}

func (g Given) validate() error {
	for flag, dir := range map[string]string{"--cni-conf-dir": g.ConfDir, "--cni-bin-dir": g.BinDir} {
		if dir != "" && !filepath.IsAbs(dir) {
			return network.Invalid.Errorf("%s %q: want an absolute path of the node", flag, dir)
		}
	}
	if !slices.Contains([]string{"", network.Containerd, network.CRIO}, g.Runtime) {
		return network.Invalid.Errorf("--runtime %q: want %q or %q", g.Runtime, network.Containerd, network.CRIO)
	}
	return nil
}
