package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/internal/kubelettest"
	"github.com/multiplexer-cni/multiplexer/internal/nettest"
	"github.com/multiplexer-cni/multiplexer/pkg/agentapi"
	"github.com/multiplexer-cni/multiplexer/pkg/install"
	"github.com/multiplexer-cni/multiplexer/pkg/journal"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// bed is a node below a directory: its files, its plugin, an agent's socket
// with a server of the real kind behind it, and a kubelet.
type bed struct {
	*testing.T
	Node
	kubelet *kubelettest.Kubelet
	ready   int    // the agent's /readyz
	version string // that the agent says
	agent   func() // ends it
}

const clusterNetwork = `{"cniVersion": "1.0.0", "name": "pods", "plugins": [
 {"type": "bridge", "ipam": {"type": "host-local"}},
 {"type": "portmap", "capabilities": {"portMappings": true}}]}`

const (
	confDir  = "/etc/cni/net.d"
	stateDir = "/state"
	conf     = confDir + "/" + install.ConfName
)

func newBed(t *testing.T) *bed {
	t.Helper()
	root, err := os.MkdirTemp("", "mx")
	if err != nil {
		t.Fatal(err)
	}
	b := &bed{T: t, ready: http.StatusOK}
	b.Root = root
	t.Cleanup(func() { b.must(os.RemoveAll(root)) })
	for _, dir := range []string{confDir, "/opt/cni/bin", "/run/netns", "/sys/bus/pci/devices", "/conf"} {
		b.must(os.MkdirAll(b.at(dir), 0o755))
	}
	b.must(os.Mkdir(b.at(stateDir), 0o700))
	// No link: that would lead below the root.
	b.file("/opt/cni/bin/multiplexer", "#!/bin/sh\nexec "+nettest.Binary(t)+"\n", 0o755)
	for _, plugin := range []string{"bridge", "portmap", "host-local"} {
		b.file("/opt/cni/bin/"+plugin, "#!/bin/sh\n", 0o755)
	}
	b.file(confDir+"/10-pods.conflist", clusterNetwork, 0o644)
	b.options(map[string]any{})
	b.kubelet = kubelettest.Start(t, root)
	b.startAgent()
	web := httptest.NewServer(http.HandlerFunc(b.web))
	t.Cleanup(web.Close)
	b.Metrics = strings.TrimPrefix(web.URL, "http://")
	b.Embedded = []string{"sriov", "fixipam"}
	b.Version, err = PluginVersion(t.Context(), nettest.Binary(t))
	b.must(err)
	b.version = b.Version
	b.PodResources, b.KubeletDir, b.DeviceConfig = b.kubelet.Socket(), b.at("/kubelet"), b.at("/devices.json")
	b.BootIDPath, b.WithoutCluster, b.Now = "/proc/sys/kernel/random/boot_id", "nobody is asked", time.Now
	sys := sriov.Sysfs(b.at("/sys"))
	b.VFs = sriov.Inventory{Sys: sys, Kernel: sriov.Resident{Linux: sriov.Linux{Sys: sys}}, Claims: sriov.NewClaims(b.at(stateDir), "")}
	return b
}

func (b *bed) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// file writes a file of the node.
func (b *bed) file(path, content string, mode os.FileMode) {
	b.Helper()
	b.must(os.MkdirAll(filepath.Dir(b.at(path)), 0o700))
	b.must(os.WriteFile(b.at(path), []byte(content), mode))
	b.must(os.Chmod(b.at(path), mode))
}

// options makes our conf with keys of the plugin's configuration.
func (b *bed) options(keys map[string]any) {
	b.Helper()
	all := map[string]any{"agentSocket": "/run/agent.sock", "stateDir": stateDir, "confDir": "/conf", "clusterCIDRs": []string{"10.244.0.0/16"}}
	for key, value := range keys {
		all[key] = value
	}
	raw, err := json.Marshal(all)
	b.must(err)
	list, err := network.ParseList("pods", "", []byte(clusterNetwork))
	b.must(err)
	content, err := install.Conflist(install.Cluster{Path: confDir + "/10-pods.conflist", List: list}, install.Settings{ConfDir: confDir, Options: raw})
	b.must(err)
	b.file(conf, string(content), 0o600)
}

// edit replaces a text of a file.
func (b *bed) edit(path, before, after string) {
	b.Helper()
	raw, err := os.ReadFile(b.at(path))
	b.must(err)
	if !strings.Contains(string(raw), before) {
		b.Fatalf("%s lacks %q:\n%s", path, before, raw)
	}
	b.must(os.WriteFile(b.at(path), []byte(strings.Replace(string(raw), before, after, 1)), 0o600))
}

// startAgent serves on the agent's socket as the agent does.
func (b *bed) startAgent() {
	b.Helper()
	listener, err := agentapi.Listen(b.at("/run/agent.sock"))
	b.must(err)
	server := &agentapi.Server{Busy: 1, Queue: 1, Log: slog.New(slog.DiscardHandler), Answer: func(context.Context, *agentapi.Request) (*agentapi.Known, error) {
		return &agentapi.Known{}, nil
	}}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx, listener) }()
	stopped := false
	b.agent = func() {
		if !stopped {
			stopped = true
			cancel()
			<-ended
		}
	}
	b.Cleanup(func() { b.agent() })
}

// web is the agent's HTTP server.
func (b *bed) web(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/readyz":
		w.WriteHeader(b.ready)
		_, _ = fmt.Fprintln(w, "not known yet: nodes")
	case "/metrics":
		_, _ = fmt.Fprintf(w, "# TYPE multiplexer_build_info gauge\nmultiplexer_build_info{goversion=\"go1\",version=%q} 1\n", b.version)
	}
}

// tmpfs mounts a file system of the node.
func (b *bed) tmpfs(path string, flags uintptr, data string) {
	b.Helper()
	b.must(unix.Mount("tmpfs", b.at(path), "tmpfs", flags, "mode=0700,"+data))
	b.Cleanup(func() { b.must(unix.Unmount(b.at(path), unix.MNT_DETACH)) })
}

// journal writes a container's journal, as the plugin does, up to a point.
func (b *bed) journal(container, netns string, write func(*journal.Entry) error) {
	b.Helper()
	boot, err := os.ReadFile(b.BootIDPath)
	b.must(err)
	store := &journal.Store{Dir: b.at(stateDir), Now: time.Now}
	entry, err := store.Create(b.Context(), container)
	b.must(err)
	b.must(entry.Begin(journal.Header{Container: container, IfName: "eth0", Netns: netns, Boot: strings.TrimSpace(string(boot)), Pod: "shop/web"}))
	_, err = entry.Plan(network.Attachment{List: network.List{Name: "pods"}, Reference: "pods", IfName: "eth0", Cluster: true})
	b.must(err)
	b.must(entry.Adding(0))
	b.must(write(entry))
	b.must(entry.Close())
}

// find returns what a check found.
func (b *bed) find(check string) []Finding {
	b.Helper()
	var out []Finding
	for _, row := range b.Look(b.Context()).Rows {
		if row.Check == check {
			out = append(out, row.Finding)
		}
	}
	if len(out) == 0 {
		b.Fatalf("no row of %q", check)
	}
	return out
}
