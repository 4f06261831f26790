package doctor

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/multiplexer-cni/multiplexer/pkg/install"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// inspect lets install look at the node, with the options that the conf on it
// was made with.
func (s *sight) inspect() {
	paths := s.paths
	if s.placed != nil {
		// The agent of a pod does not see which runtime the node has: its conf
		// names none, and is no worse for that.
		paths.Runtime = s.config.Runtime
	}
	n := &install.Installer{Root: s.Root, Paths: paths, Log: slog.New(slog.DiscardHandler), Now: s.Now}
	if s.placed != nil && s.configErr == nil {
		n.Options, s.configErr = s.placed.Options()
	}
	s.report = n.Inspect()
}

// folder reads the node's network configurations.
func (s *sight) folder() network.Folder {
	return network.Folder{
		ReadDir: func(dir string) ([]fs.DirEntry, error) { return os.ReadDir(s.at(dir)) },
		ReadFile: func(path string) ([]byte, error) {
			info, err := os.Stat(s.at(path))
			if err == nil && (!info.Mode().IsRegular() || info.Size() > network.MaxDefinition) {
				err = network.Invalid.Errorf("%s: is no regular file of at most %d bytes", path, network.MaxDefinition)
			}
			if err != nil {
				return nil, err
			}
			return os.ReadFile(s.at(path))
		},
	}
}

// seeCluster reads the cluster network that a pod gets now.
func (s *sight) seeCluster() {
	var err error
	switch {
	case s.placed != nil && s.placed.Index > 0: // it stands before us in our own list
		list := *s.placed.List
		list.Plugins = list.Plugins[:s.placed.Index]
		s.cluster = &list
	case len(s.config.Delegates) > 0:
		s.cluster, err = network.ParseList("delegates[0]", s.config.Name, s.config.Delegates[0])
	case s.report.Cluster != "":
		s.cluster, err = s.folder().List(s.report.Cluster, network.AlwaysMore)
	}
	if err != nil {
		s.cluster = nil
	}
}

// byHand reports a conf under another name than install's.
func (s *sight) byHand() bool {
	return s.placed != nil && filepath.Base(s.placed.Path) != install.ConfName
}

func (s *sight) checkRuntime(context.Context) []Finding {
	if s.pathsErr != nil {
		return []Finding{fail("set --cni-conf-dir and --cni-bin-dir, or --runtime", "%s", s.pathsErr)}
	}
	var wrong []Finding
	for _, w := range s.paths.Warnings {
		wrong = append(wrong, warn("change the runtime's configuration", "%s", w))
	}
	runtime := s.paths.Runtime
	if runtime == "" {
		runtime = "the runtime"
	}
	return orOK(wrong, "%s: networks in %s, plugins in %s (by %s)", runtime, s.paths.ConfDir, strings.Join(s.search, ", "), s.paths.Source)
}

// checkConf is about our conf and its place among the others.
func (s *sight) checkConf(context.Context) []Finding {
	switch {
	case s.pathsErr != nil:
		return []Finding{na("the runtime's directory is not known")}
	case s.configErr != nil && s.placed != nil:
		return []Finding{fail("correct it: see docs/configuration.md", "%s: %s", s.placed.Path, s.configErr)}
	}
	wrong := s.confFindings()
	if s.placed == nil {
		return wrong
	}
	for _, w := range network.Warnings(s.placed.Entry) {
		wrong = append(wrong, warn("correct the key, or take it out", "%s: %s", s.placed.Path, w))
	}
	wrong = append(wrong, s.confFits()...)
	return orOK(wrong, "%s is the first of %d", s.placed.Path, len(s.report.Confs))
}

// confFindings are install's. They are failures where new pods do not come
// through multiplexer, or not at all.
func (s *sight) confFindings() []Finding {
	if s.byHand() {
		return s.confByHand()
	}
	if s.uninstalled() {
		again := "run multiplexerd install"
		if s.uninstall.Installation != "" {
			again = install.Again
		}
		return []Finding{fail(again, "multiplexer was uninstalled from this node%s: new pods get the cluster network alone", s.uninstall.When())}
	}
	if s.absent() {
		return []Finding{fail("run multiplexerd install, or apply deploy/install.yaml; if its agent runs here, its log says what it waits for",
			"multiplexer is not on this node: new pods get the cluster network alone")}
	}
	state := Warn
	if !s.report.First || s.placed == nil {
		state = Fail
	}
	var out []Finding
	for _, f := range s.report.Findings {
		if f.Kind == install.AboutConf { // the others have checks of their own
			out = append(out, Finding{state, f.What, f.Remedy})
		}
	}
	return out
}

// confByHand is for a conf that install did not write: it must be first too.
func (s *sight) confByHand() []Finding {
	own := filepath.Base(s.placed.Path)
	var out []Finding
	for _, c := range s.report.Confs {
		if c.Name == own {
			break
		}
		out = append(out, fail("rename one of them", "%s sorts before %s: pods do not get their networks from multiplexer", filepath.Join(s.paths.ConfDir, c.Name), own))
	}
	return out
}

// confFits compares the conf with the cluster network that it is for.
func (s *sight) confFits() []Finding {
	var wrong []Finding
	const remake = "run multiplexerd install, or correct the file"
	declared := s.config.Capabilities
	if !declared[network.PodAnnotations] {
		f := warn(remake, "%s does not ask for the capability %s: every pod has to wait for the agent", s.placed.Path, network.PodAnnotations)
		if s.config.AgentSocket == "" {
			f = fail(remake, "%s does not ask for the capability %s: no pod starts", s.placed.Path, network.PodAnnotations)
		}
		wrong = append(wrong, f)
	}
	if s.placed.List.CNIVersion != "1.1.0" {
		wrong = append(wrong, warn(remake, "%s offers CNI %s at most: the runtime asks for no STATUS, and the node is Ready without its cluster network", s.placed.Path, s.placed.List.CNIVersion))
	}
	if s.config.LogFile != "" && !s.hidden(s.config.LogFile) {
		if _, err := os.Stat(s.at(filepath.Dir(s.config.LogFile))); err != nil {
			wrong = append(wrong, warn("make the directory, or correct logFile", "nothing is logged: %s", err))
		}
	}
	if s.cluster == nil || s.placed.Index > 0 {
		return wrong
	}
	if s.placed.List.Name != s.cluster.Name && s.paths.Runtime == network.CRIO {
		wrong = append(wrong, fail(remake, "%s has the name %q, the cluster network is %q: CRI-O takes them for two networks, and its GC releases addresses of pods that run", s.placed.Path, s.placed.List.Name, s.cluster.Name))
	}
	for _, p := range s.cluster.Parsed() {
		for name, on := range p.Capabilities {
			if on && !declared[name] {
				wrong = append(wrong, fail(remake, "the cluster network's plugin %s takes %s, which %s does not ask the runtime for", p.Type, name, s.placed.Path))
			}
		}
	}
	return sorted(wrong)
}

// checkCluster is about the cluster network, and about others that CRI-O
// believes in.
func (s *sight) checkCluster(context.Context) []Finding {
	if s.pathsErr != nil {
		return []Finding{na("the runtime's directory is not known")}
	}
	if s.cluster == nil {
		what := fmt.Sprintf("the node has no cluster network in %s: no pod starts", s.paths.ConfDir)
		for _, f := range s.report.Findings {
			if f.Kind == install.AboutCluster {
				what = f.What + ": no pod starts"
			}
		}
		return []Finding{fail("install or start the cluster's own network, or set clusterNetwork", "%s", what)}
	}
	var wrong []Finding
	if file := s.config.ReadinessIndicatorFile; file != "" && !s.hidden(file) {
		if _, err := os.Stat(s.at(file)); err != nil {
			wrong = append(wrong, fail("see why the cluster network is not ready, or correct the key", "readinessindicatorfile: %s: pods wait", err))
		}
	}
	wrong = append(wrong, s.collected()...)
	where := s.report.Cluster
	if where == "" && s.placed != nil {
		where = s.placed.Path
	}
	return orOK(wrong, "%q (%s, CNI %s, of %s)", s.cluster.Name, strings.Join(s.cluster.Types(), "+"), s.cluster.CNIVersion, where)
}

// collected names the networks that CRI-O keeps beside ours. At CNI 1.1.0 it
// has them collect their garbage with lists that lack our pods (docs/adr/0005).
func (s *sight) collected() []Finding {
	if s.paths.Runtime != network.CRIO || s.placed == nil {
		return nil
	}
	var wrong []Finding
	for _, c := range s.report.Confs {
		path := filepath.Join(s.paths.ConfDir, c.Name)
		if c.Error != "" || c.Network == s.placed.List.Name || path == s.placed.Path {
			continue
		}
		list, err := s.folder().List(path, network.AlwaysMore)
		if err != nil || list.CNIVersion != "1.1.0" || list.DisableGC {
			continue
		}
		f := warn("move it out of the directory, for example to confDir, or set disableGC in it",
			"%s has a name of its own (%q) and CNI 1.1.0: CRI-O's GC takes the addresses of pods that have it", path, c.Network)
		if path == s.report.Cluster { // moved away, it would not be found
			f.State, f.Remedy = Fail, "run multiplexerd install, by which our conf takes that name, or set disableGC in it"
		}
		wrong = append(wrong, f)
	}
	return wrong
}

// sorted puts findings of a map in order.
func sorted(list []Finding) []Finding {
	slices.SortStableFunc(list, func(a, b Finding) int { return strings.Compare(a.What, b.What) })
	return list
}
