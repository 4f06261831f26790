package doctor

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/agentapi"
	"github.com/multiplexer-cni/multiplexer/pkg/install"
	"github.com/multiplexer-cni/multiplexer/pkg/journal"
	"github.com/multiplexer-cni/multiplexer/pkg/k8sclient"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/podns"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// Node is a node, and where to look for what.
type Node struct {
	Root  string        // where this process sees the node's directories; "/" on the node
	Given install.Given // the runtime's directories, as far as they were given
	// Unseen says of a path of the node whether it cannot be seen from here,
	// in a container that it is not mounted into; nil = all can be.
	Unseen func(path string) bool

	StateDir string   // "" = what multiplexer's configuration says
	Version  string   // of this tool; plugin and agent are to have the same
	Embedded []string // plugin types that run in the plugin's process

	PodResources string // kubelet's pod-resources socket
	KubeletDir   string
	Metrics      string // address of the agent's HTTP server; "" = it has none
	BootIDPath   string
	VFs          sriov.Inventory // without Allocated, which kubelet is asked for

	// Cluster asks the API server; nil where nobody may. WithoutCluster says why.
	Cluster        Cluster
	WithoutCluster string
	// DeviceConfig is the device plugin's file.
	DeviceConfig string
	// More are checks of what this room may not know.
	More []Check

	Now func() time.Time
}

// Cluster is the API server, as *k8sclient.Reader asks it.
type Cluster interface {
	May(ctx context.Context, right k8sclient.Right) (bool, error)
	Definitions(ctx context.Context) ([]k8sclient.Definition, error)
}

// sight is one look at a node: what several checks need, read once.
type sight struct {
	*Node
	paths      install.Paths
	pathsErr   error
	search     []string // the runtime's plugin directories
	placed     *install.Placed
	placedErr  error
	config     *network.Config // never nil: the defaults where nothing can be read
	configErr  error
	report     install.Report
	cluster    *network.List      // the cluster network; nil = not known
	uninstall  *install.Uninstall // nil = nobody uninstalls
	unreadable error              // the marker of an uninstall
	word       *agentapi.Copy
	wordErr    error
	store      *journal.Store
	containers []container
	storeErr   error
}

// Look makes all checks. ctx bounds it; each question that may hang has a
// bound of its own.
func (n *Node) Look(ctx context.Context) *Report {
	s := n.see()
	checks := append([]Check{
		{"runtime", s.checkRuntime},
		{"conf", s.checkConf},
		{"cluster network", s.checkCluster},
		{"plugin", s.checkPlugin},
		{"delegates", s.checkDelegates},
		{"state", s.checkState},
		{"agent", s.checkAgent},
		{"kubelet", s.checkKubelet},
		{"rights", s.checkRights},
		{"definitions", s.checkDefinitions},
		{"ranges", s.checkRanges},
		{"journals", s.checkJournals},
		{"multus", s.checkMultus},
		{"VFs", s.checkVFs},
		{"PFs", s.checkPFs},
	}, n.More...)
	checks = append(checks, Check{"kernel", s.checkKernel})
	return &Report{Version: n.Version, Rows: run(ctx, checks)}
}

// hidden reports whether a path of the node cannot be seen from here.
func (n *Node) hidden(path string) bool { return path != "" && n.Unseen != nil && n.Unseen(path) }

// at is where this process sees a file of the node.
func (n *Node) at(path string) string { return podns.Below(n.Root, path) }

// see reads what several checks need.
func (n *Node) see() *sight {
	s := &sight{Node: n}
	s.paths, s.pathsErr = install.Detect(n.Root, n.Given)
	if s.pathsErr == nil {
		s.search, s.pathsErr = install.SearchDirs(n.Root, n.Given)
	}
	s.seeConf()
	s.uninstall, s.unreadable = install.ReadUninstall("/", s.stateDir())
	s.word, s.wordErr = agentapi.LoadCopy(s.stateDir())
	s.store = &journal.Store{Dir: s.stateDir(), Now: n.Now}
	s.seeContainers()
	return s
}

// uninstalled reports whether multiplexer was taken off this node on purpose.
func (s *sight) uninstalled() bool { return s.uninstall != nil && s.placed == nil }

// absent reports whether multiplexer is not on this node: nothing of it is
// missing then.
func (s *sight) absent() bool {
	return s.uninstalled() || errors.Is(s.placedErr, errNoConf) && !s.exists(s.at(s.pluginPath()))
}

// pluginPath is the node's path of our executable.
func (s *sight) pluginPath() string { return filepath.Join(s.paths.BinDir, install.PluginName) }

// notHere is for checks of what belongs to an installation.
func notHere() []Finding { return []Finding{na("multiplexer is not on this node: see conf")} }

// errNoConf says that the runtime does not call multiplexer at all.
var errNoConf = errors.New("no file of the runtime's directory names multiplexer")

// WhereState is where this process sees the plugin's directory: StateDir, else
// what the conf on the node says, else the default.
func (n *Node) WhereState() string {
	s := &sight{Node: n}
	s.paths, s.pathsErr = install.Detect(n.Root, n.Given)
	s.seeConf()
	return s.stateDir()
}

// seeConf reads multiplexer's own configuration on the node. Without one the
// defaults stand for it.
func (s *sight) seeConf() {
	s.placedErr = s.pathsErr
	if s.placedErr == nil {
		s.placed, s.placedErr = install.FindPlaced(s.Root, s.paths.ConfDir)
	}
	if s.placedErr == nil && s.placed == nil {
		s.placedErr = errNoConf
	}
	s.configErr = s.placedErr
	if s.placed != nil {
		s.config, s.configErr = network.ParseConfig(s.placed.Entry)
	}
	if s.configErr != nil {
		s.config, _ = install.Settings{}.Config() // no options: they parse
	}
	if s.pathsErr != nil {
		return
	}
	s.inspect()
	s.seeCluster()
}

// stateDir is where this process sees the plugin's directory.
func (s *sight) stateDir() string {
	if s.StateDir != "" {
		return s.at(s.StateDir)
	}
	return s.at(s.config.StateDir)
}
