package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// need is a plugin that a network needs.
type need struct {
	plugin, why string
	every       bool // pod needs it
}

// checkDelegates looks for the executable of each plugin that a network of
// this node needs.
func (s *sight) checkDelegates(ctx context.Context) []Finding {
	if s.pathsErr != nil {
		return []Finding{na("the runtime's directory is not known")}
	}
	needs, wrong := s.needs(ctx)
	dirs := s.pluginDirs()
	var plugins []string
	for _, n := range needs {
		if !slices.Contains(plugins, n.plugin) {
			plugins = append(plugins, n.plugin)
		}
	}
	for _, plugin := range plugins {
		if why := s.find(plugin, dirs); why != "" {
			wrong = append(wrong, s.lacks(plugin, why, needs))
		}
	}
	out := orOK(wrong, "%s: all in %s", strings.Join(plugins, ", "), strings.Join(dirs, ", "))
	if len(plugins) == 0 {
		out = orOK(wrong, "no network needs one")
	}
	if s.hidden(s.config.ConfDir) {
		out = append(out, na("networks by file: %s is not mounted here; run multiplexerd doctor on the node to see them too", s.config.ConfDir))
	}
	return out
}

// pluginDirs are where the plugin searches: the runtime's CNI_PATH, and binDir.
func (s *sight) pluginDirs() []string {
	dirs := slices.Clone(s.search)
	if s.config.BinDir != "" && !slices.Contains(dirs, s.config.BinDir) {
		dirs = append([]string{s.config.BinDir}, dirs...)
	}
	return dirs
}

// lacks says which networks a plugin's absence concerns.
func (s *sight) lacks(plugin, why string, needs []need) Finding {
	var who []string
	f := Finding{State: Warn, Remedy: "install the plugin there, or correct the network's \"type\""}
	for _, n := range needs {
		if n.plugin != plugin {
			continue
		}
		who = append(who, n.why)
		if n.every {
			f.State = Fail
		}
	}
	more := ""
	if len(who) > 3 {
		who, more = who[:3], fmt.Sprintf(" and %d more", len(who)-3)
	}
	if s.hidden(s.config.BinDir) {
		return na("whether there is a plugin %s: binDir %s is not mounted here; run multiplexerd doctor on the node", plugin, s.config.BinDir)
	}
	f.What = fmt.Sprintf("plugin %s %s: %s%s cannot be attached", plugin, why, strings.Join(who, ", "), more)
	return f
}

// find says why a plugin cannot be run, or "".
func (s *sight) find(plugin string, dirs []string) string {
	for _, dir := range dirs {
		info, err := os.Stat(s.at(filepath.Join(dir, plugin)))
		switch {
		case err != nil || !info.Mode().IsRegular():
			continue
		case info.Mode()&0o111 == 0:
			return filepath.Join(dir, plugin) + " is not executable"
		}
		return ""
	}
	return "is in none of " + strings.Join(dirs, ", ")
}

// needs are the plugins of the cluster network, of the configuration's own
// delegates, of the files of confDir, and of the definitions, as far as those
// are known.
func (s *sight) needs(ctx context.Context) (needs []need, wrong []Finding) {
	add := func(list *network.List, why string, every bool) {
		for _, plugin := range s.pluginsOf(list) {
			needs = append(needs, need{plugin, why, every})
		}
	}
	if s.cluster != nil {
		add(s.cluster, "the cluster network", true)
	}
	for i := 1; i < len(s.config.Delegates); i++ {
		if list, err := network.ParseList("", s.config.Name, s.config.Delegates[i]); err == nil {
			add(list, fmt.Sprintf("delegates[%d]", i), true)
		}
	}
	for _, file := range s.confDirFiles() {
		list, err := s.folder().List(file, network.WhenAsked)
		if err != nil {
			wrong = append(wrong, warn("correct or remove the file", "%s", err))
			continue
		}
		add(list, file, false)
	}
	for _, d := range s.definitions(ctx) {
		if strings.TrimSpace(d.config) == "" {
			continue // a file of confDir
		}
		list, err := network.ParseList("NetworkAttachmentDefinition "+d.name, filepath.Base(d.name), []byte(d.config))
		if err == nil {
			err = list.Validate("NetworkAttachmentDefinition " + d.name)
		}
		if err != nil {
			wrong = append(wrong, warn("correct the definition", "%s", err))
			continue
		}
		add(list, d.name, d.every)
	}
	return needs, wrong
}

// pluginsOf are the executables that a network needs. What runs in our own
// process needs none, but its IPAM may.
func (s *sight) pluginsOf(list *network.List) []string {
	embedded := s.Embedded
	if s.config.Embedded != nil {
		embedded = s.config.Embedded
	}
	var out []string
	for _, raw := range list.Plugins {
		var p struct {
			Type string `json:"type"`
			IPAM struct {
				Type string `json:"type"`
			} `json:"ipam"`
		}
		if json.Unmarshal(raw, &p) != nil {
			continue
		}
		for _, plugin := range []string{p.Type, p.IPAM.Type} {
			if plugin != "" && plugin == filepath.Base(plugin) && !network.MetaPlugin(plugin) && !slices.Contains(embedded, plugin) {
				out = append(out, plugin)
			}
		}
	}
	return out
}

// confDirFiles are the node's own networks, those of namespaces included.
func (s *sight) confDirFiles() []string {
	dirs := []string{s.config.ConfDir}
	entries, err := os.ReadDir(s.at(s.config.ConfDir))
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if e.IsDir() {
			dirs = append(dirs, filepath.Join(s.config.ConfDir, e.Name()))
		}
	}
	var files []string
	for _, dir := range dirs {
		found, ferr := s.folder().Files(dir, network.ConfExtensions()...)
		if ferr == nil {
			files = append(files, found...)
		}
	}
	return files
}

// known is a definition of the cluster.
type known struct {
	name, config string
	resource     string
	every        bool // pod gets it
}

// definitions are those of the agent's last word, and, with the API server's
// help, all others.
func (s *sight) definitions(ctx context.Context) []known {
	var out []known
	if s.word != nil {
		for _, d := range s.word.Definitions {
			out = append(out, known{d.String(), d.Config, d.ResourceName, true})
		}
	}
	if s.Cluster == nil {
		return out
	}
	all, err := s.Cluster.Definitions(ctx)
	if err != nil {
		return out // said of the definitions
	}
	for _, d := range all {
		name := d.Namespace + "/" + d.Name
		if !slices.ContainsFunc(out, func(k known) bool { return k.name == name }) {
			out = append(out, known{name, d.Config, d.ResourceName, false})
		}
	}
	return out
}
