package install

import (
	"bytes"
	"path/filepath"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// Report is what the node looks like, for doctor and for metrics. Making it
// changes nothing.
type Report struct {
	Paths    Paths      `json:"paths"`
	Confs    []ConfFile `json:"confs"`   // as the runtime sorts them
	First    bool       `json:"first"`   // our conf is the first one
	Cluster  string     `json:"cluster"` // the cluster network's file
	Plugin   string     `json:"plugin"`  // our executable, compared with the one to install
	Findings []Finding  `json:"findings"`
}

// ConfFile is one file of the runtime's directory.
type ConfFile struct {
	Name    string   `json:"name"`
	Network string   `json:"network"`
	Types   []string `json:"types"`
	Error   string   `json:"error,omitempty"`
}

// Kind is what a finding is about.
type Kind string

// The kinds.
const (
	AboutRuntime Kind = "runtime"         // the runtime's own configuration
	AboutConf    Kind = "conf"            // our conf, and who stands before it
	AboutCluster Kind = "cluster network" // there is none, or it cannot be read
	AboutPlugin  Kind = "plugin"          // our executable
)

// Finding is something that is not as it should be.
type Finding struct {
	Kind   Kind   `json:"kind"`
	What   string `json:"what"`
	Remedy string `json:"remedy"`
}

// Inspect looks at the node.
func (n *Installer) Inspect() Report {
	r := Report{Paths: n.Paths}
	for _, w := range n.Paths.Warnings {
		r.find(AboutRuntime, w, "change the runtime's configuration")
	}
	n.inspectConfs(&r)
	n.inspectConf(&r)
	n.inspectPlugin(&r)
	return r
}

func (r *Report) find(about Kind, what, remedy string) {
	r.Findings = append(r.Findings, Finding{about, what, remedy})
}

func (n *Installer) inspectConfs(r *Report) {
	files, err := n.host().folder().Files(n.Paths.ConfDir, network.ConfExtensions()...)
	if err != nil {
		r.find(AboutConf, err.Error(), "set --cni-conf-dir to the runtime's directory, or correct its rights")
		return
	}
	for i, file := range files {
		c := ConfFile{Name: filepath.Base(file)}
		list, rerr := n.host().folder().List(file, network.AlwaysMore)
		if rerr != nil {
			c.Error = rerr.Error()
			r.find(AboutConf, c.Error, "correct or remove the file: the runtime may serve no pod, or take the next one")
		} else {
			c.Network, c.Types = list.Name, list.Types()
		}
		r.Confs = append(r.Confs, c)
		if c.Name == ConfName {
			r.First = i == 0
		} else if c.Name < ConfName {
			r.find(AboutConf, file+" sorts before our conf: pods do not get their networks from multiplexer", "rename it, remove it, or install with --take-over if it is another meta-plugin's")
		}
	}
	entries, err := n.host().folder().ReadDir(n.Paths.ConfDir)
	for _, e := range entries {
		if err == nil && filepath.Ext(e.Name()) == ".cilium_bak" {
			r.find(AboutConf, filepath.Join(n.Paths.ConfDir, e.Name())+" was renamed by Cilium", "set Cilium's cni.exclusive to false")
		}
	}
}

func (n *Installer) inspectConf(r *Report) {
	if config, _, err := n.settings().parse(); err != nil {
		r.find(AboutConf, err.Error(), "correct the options")
	} else if cluster, cerr := n.host().cluster(config, n.Paths.ConfDir); cerr != nil {
		r.find(AboutCluster, cerr.Error(), "install or start the cluster's own network, or set clusterNetwork")
	} else {
		r.Cluster = cluster.Path
	}
	there, err := n.conf()
	switch {
	case err != nil:
		r.find(AboutConf, err.Error(), "correct the rights of "+n.confPath())
	case there == nil:
		r.find(AboutConf, n.confPath()+" does not exist: pods do not get their networks from multiplexer", "see the log of multiplexerd; its last events say what it waits for")
	default:
		if want, werr := n.wanted(); werr == nil && !bytes.Equal(there, want) {
			r.find(AboutConf, n.confPath()+" is not as this installation makes it", "the agent corrects it; if it does not, see its log")
		}
	}
	for _, copied := range n.copies() {
		r.find(AboutConf, copied+" is a copy of our conf that somebody renamed", "stop whoever renames other networks' files")
	}
}

func (n *Installer) inspectPlugin(r *Report) {
	path := n.pluginPath()
	if n.Plugin == "" {
		r.Plugin = path
		if !n.host().exists(path) {
			r.find(AboutPlugin, path+" is missing: no pod can start", "install the plugin there, or set --cni-bin-dir")
		}
		return
	}
	state, err := n.host().comparePlugin(n.Plugin, path)
	if err != nil {
		r.find(AboutPlugin, err.Error(), "correct the rights of "+path)
		return
	}
	r.Plugin = path + ": " + string(state)
	if state != pluginSame {
		r.find(AboutPlugin, path+" is "+string(state), "the agent puts it back; if it does not, see its log, and whether the directory is the runtime's")
	}
}
