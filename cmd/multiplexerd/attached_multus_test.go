package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// A pod that Multus attached is waited for by uninstall, unless Multus is to
// detach it: nobody else would release its second network.
func TestUninstallWaitsForPodsOfMultus(t *testing.T) {
	n := newTree(t)
	record := func(network, ifname string) string {
		conf := fmt.Sprintf(`{"cniVersion":"1.0.0","name":%q,"plugins":[{"type":"bridge"}]}`, network)
		raw, err := json.Marshal(map[string]any{
			"kind": "cniCacheV1", "containerId": "c1", "ifName": ifname, "networkName": network, "netns": "/run/netns/c1", "config": []byte(conf),
			"cniArgs": [][2]string{{"K8S_POD_NAMESPACE", "shop"}, {"K8S_POD_NAME", "web"}}, "result": map[string]any{"cniVersion": "1.0.0"},
		})
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	n.put("/m/results/cluster-c1-eth0", record("cluster", "eth0"))
	n.put("/m/results/storage-c1-net1", record("storage", "net1"))
	n.put("/m/c1", fmt.Sprintf(`[{"Bytes": %q}, {"Bytes": %q}]`, base64Of(`{"cniVersion":"1.0.0","name":"cluster","type":"bridge"}`), base64Of(`{"cniVersion":"1.0.0","name":"storage","type":"bridge"}`)))
	n.put("/run/netns/c1", "")
	const multusConf = `{"cniVersion":"1.0.0","name":"m","type":"multus"}`
	n.put("/etc/cni/net.d/00-multus.conf", multusConf)
	n.put("/opt/cni/bin/multus", "")
	install := func() {
		if out, err := n.install("--set", "agentSocket=", "--set", "cniDir=/m", "--set", "clusterNetwork=/etc/cni/net.d/10-cluster.conflist"); err != nil {
			t.Fatal(err, out)
		}
	}
	uninstall := func(timeout string, more ...string) (string, error) {
		out, _, err := n.run(append([]string{"uninstall", "--host-root", n.root, "--settle", "1ms", "--timeout", timeout}, more...)...)
		return out, err
	}
	install()
	if out, err := uninstall("1m"); err != nil {
		t.Fatalf("Multus is next: %v %s", err, out)
	}

	n.remove("/etc/cni/net.d/00-multus.conf")
	install()
	out, err := uninstall("1s")
	if err == nil || !strings.Contains(err.Error(), "1 pod still has networks: shop/web (attached by Multus: storage)") || n.get("/etc/cni/net.d/00-multiplexer.conflist") == "" {
		t.Fatalf("nobody is next who could detach it: %v %s", err, out)
	}
	if _, err = uninstall("1s", "--force"); err == nil || !strings.Contains(err.Error(), "detach shop/web (attached by Multus: storage): it was attached by Multus: delete the pod") {
		t.Errorf("by force: %v", err)
	}
	n.remove("/run/netns/c1") // its DEL is over, or never comes
	if out, err = uninstall("1m"); err != nil {
		t.Errorf("%v %s", err, out)
	}
}

// Records of Multus before 4.1 do not say whether the pod lives, and one that
// cannot be read says not what the pod has: the pod is waited for until it, or
// its record, is removed.
func TestUninstallWaitsForWhatMultusDoesNotSay(t *testing.T) {
	const list = `[{"Bytes": %q}, {"Bytes": %q}]`
	clusterOf, storage := base64Of(`{"cniVersion":"1.0.0","name":"cluster","type":"bridge"}`), base64Of(`{"cniVersion":"1.0.0","name":"storage","type":"bridge"}`)
	for name, c := range map[string]struct {
		files map[string]string
		want  string // "" = nothing is waited for
		lives bool   // and so no force passes it
	}{
		"no namespace":          {map[string]string{"/m/c1": fmt.Sprintf(list, clusterOf, storage)}, "container c1 (attached by Multus: storage, whether the pod lives is not recorded: delete it, or remove /m/c1 if it is gone)", false},
		"the cluster's alone":   {map[string]string{"/m/c1": fmt.Sprintf(`[{"Bytes": %q}]`, clusterOf)}, "", false},
		"a list that is spoilt": {map[string]string{"/m/c1": "["}, "/m/c1 of Multus", false},
		"a spoilt list of one that lives": {map[string]string{
			"/m/c1": "[", "/run/netns/c1": "",
			"/m/results/cluster-c1-eth0": `{"kind":"cniCacheV1","containerId":"c1","ifName":"eth0","networkName":"cluster","netns":"/run/netns/c1","config":"` + clusterOf + `","result":{}}`,
		}, "/m/c1 of Multus", true},
		"a spoilt list of one that is gone": {map[string]string{
			"/m/c1": "[", "/run/netns/c2": "",
			"/m/results/cluster-c1-eth0": `{"kind":"cniCacheV1","containerId":"c1","ifName":"eth0","networkName":"cluster","netns":"/run/netns/c1","config":"` + clusterOf + `","result":{}}`,
		}, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			n := newTree(t)
			for path, content := range c.files {
				n.put(path, content)
			}
			if out, err := n.install("--set", "agentSocket=", "--set", "cniDir=/m"); err != nil {
				t.Fatal(err, out)
			}
			uninstall := func(waits bool, more ...string) error {
				timeout := "1m"
				if waits {
					timeout = "1s"
				}
				_, stderr, err := n.run(append([]string{"uninstall", "--host-root", n.root, "--settle", "1ms", "--timeout", timeout}, more...)...)
				if len(more) > 0 && err == nil && !strings.Contains(stderr, "its addresses may stay allocated") {
					t.Errorf("%q does not say whom it passed: %s", more, stderr)
				}
				return err
			}
			err := uninstall(c.want != "")
			if c.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "remove /m/c1") || n.get("/etc/cni/net.d/00-multiplexer.conflist") == "" {
				t.Fatalf("%v, want %q", err, c.want)
			}
			if err = uninstall(c.lives, "--force"); (err == nil) == c.lives {
				t.Errorf("by force: %v", err)
			}
			n.remove("/m/c1")
			if err = uninstall(false); err != nil {
				t.Error(err)
			}
		})
	}
}
