package install

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"slices"
	"testing"

	"github.com/containernetworking/cni/libcni"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

func clusterOf(t *testing.T, path, content string) Cluster {
	t.Helper()
	list, err := network.ParseList(path, "", []byte(content))
	if err != nil {
		t.Fatal(err)
	}
	return Cluster{path, list}
}

func TestConflist(t *testing.T) {
	got, err := Conflist(clusterOf(t, "/etc/cni/net.d/10-flannel.conflist", flannel), Settings{
		ConfDir: "/etc/cni/net.d", Runtime: network.Containerd,
		Options: json.RawMessage(`{"routing":{"mode":"plain"},"clusterCIDRs":["10.244.0.0/16"],"capabilities":{"bandwidth":true},"logFile":"/var/log/a<b.log"}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	const want = `{
    "cniVersion": "1.0.0",
    "cniVersions": [
        "1.0.0",
        "1.1.0"
    ],
    "name": "cbr0",
    "loadOnlyInlinedPlugins": true,
    "plugins": [
        {
            "capabilities": {
                "bandwidth": true,
                "io.kubernetes.cri.pod-annotations": true,
                "portMappings": true
            },
            "clusterCIDRs": [
                "10.244.0.0/16"
            ],
            "clusterConfDir": "/etc/cni/net.d",
            "clusterNetwork": "/etc/cni/net.d/10-flannel.conflist",
            "logFile": "/var/log/a<b.log",
            "routing": {
                "mode": "plain"
            },
            "runtime": "containerd",
            "type": "multiplexer"
        }
    ]
}
`
	if string(got) != want {
		t.Errorf("got %s", got)
	}
}

// What the runtime makes of the file: its own library loads it, and a folder
// of the cluster network's name adds nothing to our list.
func TestConflistIsLoadedAlone(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "10-flannel.conflist"), flannel, 0o600)
	writeFile(t, filepath.Join(dir, "cbr0", "50-more.conf"), `{"type":"tuning","capabilities":{"mac":true}}`, 0o600)
	h := host{root: "/"}
	cluster, err := h.cluster(&network.Config{}, dir)
	if err != nil {
		t.Fatal(err)
	}
	conf, err := Conflist(cluster, Settings{ConfDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, ConfName), string(conf), 0o600)
	loaded, err := libcni.NetworkConfFromFile(filepath.Join(dir, ConfName))
	if err != nil {
		t.Fatal(err)
	}
	if len(loaded.Plugins) != 1 || loaded.Name != "cbr0" || loaded.CNIVersion != "1.1.0" {
		t.Errorf("loaded %d plugins, name %q, version %q", len(loaded.Plugins), loaded.Name, loaded.CNIVersion)
	}
	capabilities := loaded.Plugins[0].Network.Capabilities
	for _, name := range []string{"mac", "portMappings", network.PodAnnotations} {
		if !capabilities[name] {
			t.Errorf("capability %s is not declared: %v", name, capabilities)
		}
	}
	// And the plugin's: it takes the bytes, and still finds the same cluster network.
	if _, err = network.ParseConfig(loaded.Plugins[0].Bytes); err != nil {
		t.Error(err)
	}
	again, err := h.cluster(&network.Config{}, dir)
	if err != nil || again.Path != cluster.Path {
		t.Errorf("with our conf in place the cluster network is %q, %v", again.Path, err)
	}
}

func TestConflistOptions(t *testing.T) {
	cluster := clusterOf(t, "/etc/cni/net.d/10-flannel.conflist", flannel)
	tests := map[string]struct{ options, errHas string }{
		"no object":          {`[]`, "want a JSON object"},
		"no JSON":            {`{`, "want a JSON object"},
		"our own key":        {`{"name":"x"}`, `"name" is written by install`},
		"a wrong value":      {`{"routing":{"mode":"fast"}}`, `routing.mode "fast"`},
		"two clusters":       {`{"clusterNetwork":"/a","delegates":[{"type":"bridge"}]}`, "keep one of them"},
		"wrong capabilities": {`{"capabilities":{"a":"yes"}}`, "capabilities"},
		"null":               {`null`, ""},
		"blank":              {" \n", ""},
		"null capabilities":  {`{"capabilities":null}`, ""},
		"another runtime":    {`{"runtime":"cri-o"}`, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			conf, err := Conflist(cluster, Settings{ConfDir: "/etc/cni/net.d", Runtime: network.Containerd, Options: json.RawMessage(test.options)})
			if test.errHas != "" {
				if err == nil {
					t.Fatalf("no error, but %s", conf)
				}
				wantText(t, err.Error(), test.errHas)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if name == "another runtime" && !bytes.Contains(conf, []byte(`"runtime": "cri-o"`)) {
				t.Errorf("what the operator says does not count: %s", conf)
			}
		})
	}
}

func TestClusterIsWhatTheOptionsName(t *testing.T) {
	n := newNode(t)
	n.put("/etc/cni/net.d/00-multus.conf", `{"type":"multus","name":"multus-cni-network"}`)
	n.put("/etc/cni/net.d/10-flannel.conflist", flannel)
	n.put("/etc/cni/net.d/20-calico.conflist", `{"name":"calico","plugins":[{"type":"calico"}]}`)
	n.put("/run/multus/cni/net.d/10-ovn-kubernetes.conf", `{"name":"ovn-kubernetes","type":"ovn-k8s-cni-overlay"}`)
	tests := map[string]struct{ options, path, name, errHas string }{
		"nothing":        {`{}`, "/etc/cni/net.d/10-flannel.conflist", "cbr0", ""},
		"a file":         {`{"clusterNetwork":"/etc/cni/net.d/20-calico.conflist"}`, "/etc/cni/net.d/20-calico.conflist", "calico", ""},
		"a directory":    {`{"clusterNetwork":"/run/multus/cni/net.d"}`, "/run/multus/cni/net.d/10-ovn-kubernetes.conf", "ovn-kubernetes", ""},
		"a name":         {`{"clusterNetwork":"calico"}`, "/etc/cni/net.d/20-calico.conflist", "calico", ""},
		"an inline one":  {`{"delegates":[{"name":"own","type":"bridge"}]}`, "", "own", ""},
		"no such file":   {`{"clusterNetwork":"/etc/cni/net.d/x.conf"}`, "", "", "no cluster network (yet)"},
		"no such name":   {`{"clusterNetwork":"x"}`, "", "", "give the path of a file"},
		"a meta-plugin":  {`{"clusterNetwork":"/etc/cni/net.d/00-multus.conf"}`, "", "", "meta-plugin"},
		"no conf inside": {`{"delegates":[{}]}`, "", "", "delegates[0]"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			config, _, err := Settings{Options: json.RawMessage(test.options)}.parse()
			if err != nil {
				t.Fatal(err)
			}
			got, err := n.host().cluster(config, "/etc/cni/net.d")
			if test.errHas != "" {
				if err == nil {
					t.Fatalf("no error, but %+v", got)
				}
				wantText(t, err.Error(), test.errHas)
				return
			}
			if err != nil || got.Path != test.path || got.List.Name != test.name {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

func TestDifferingNamesTheKeys(t *testing.T) {
	conf, err := Conflist(clusterOf(t, "/c", flannel), Settings{ConfDir: "/etc/cni/net.d"})
	if err != nil {
		t.Fatal(err)
	}
	edited := bytes.Replace(conf, []byte(`"name": "cbr0"`), []byte(`"name": "other"`), 1)
	edited = bytes.Replace(edited, []byte(`"portMappings": true`), []byte(`"portMappings": false`), 1)
	if got := differing(conf, edited); !slices.Equal(got, []string{"capabilities", "name"}) {
		t.Errorf("got %q", got)
	}
	if got := differing(conf, []byte("{")); !slices.Equal(got, []string{"it is no JSON any more"}) {
		t.Errorf("half a file: %q", got)
	}
	if got := differing(conf, []byte("[]")); !slices.Contains(got, "plugins") && !slices.Contains(got, "all") {
		t.Errorf("another shape: %q", got)
	}
}
