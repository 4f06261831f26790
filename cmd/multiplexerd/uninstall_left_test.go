package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/journal"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// Where the directory of a namespace cannot be seen, nobody can tell that a pod
// of Multus is gone: it is waited for, and force passes it with a word.
func TestUninstallWaitsForWhatItCannotSee(t *testing.T) {
	n := newTree(t)
	record := func(network, ifname string) string {
		raw, err := json.Marshal(map[string]any{
			"kind": "cniCacheV1", "containerId": "c1", "ifName": ifname, "networkName": network, "netns": "/var/run/containers/netns/c1",
			"config":  []byte(fmt.Sprintf(`{"cniVersion":"1.0.0","name":%q,"plugins":[{"type":"bridge"}]}`, network)),
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
	if out, err := n.install("--set", "agentSocket=", "--set", "cniDir=/m"); err != nil {
		t.Fatal(err, out)
	}
	uninstall := []string{"uninstall", "--host-root", n.root, "--settle", "1ms", "--timeout"}
	_, _, err := n.run(append(uninstall, "1s")...)
	if err == nil || n.get(ourConf) == "" {
		t.Fatalf("it is not waited for: %v", err)
	}
	for _, w := range []string{"shop/web (attached by Multus: storage", "whether the pod lives cannot be seen from here", "run multiplexerd uninstall on the node"} {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%v lacks %q", err, w)
		}
	}
	_, stderr, err := n.run(append(uninstall, "1m", "--force")...)
	if err != nil || !strings.Contains(stderr, "a container is not waited for") || n.get(ourConf) != "" {
		t.Errorf("by force: %v %s", err, stderr)
	}
}

// A journal that says nothing, empty or with half a first line, is no sign that
// a pod has no networks.
func TestUninstallWaitsForAJournalThatSaysNothing(t *testing.T) {
	for name, content := range map[string]string{"empty": "", "torn": `5dd2dc05 {"e":"op`} {
		t.Run(name, func(t *testing.T) {
			n := newTree(t)
			if out, err := n.install("--set", "agentSocket="); err != nil {
				t.Fatal(err, out)
			}
			const file = "/var/lib/cni/multiplexer/journal/c1"
			n.put(file, content)
			uninstall := []string{"uninstall", "--host-root", n.root, "--settle", "1ms", "--timeout"}
			for _, more := range [][]string{nil, {"--force"}} {
				_, _, err := n.run(append(append(uninstall, "1s"), more...)...)
				if err == nil || n.get(ourConf) == "" {
					t.Fatalf("%q: it is not waited for: %v", more, err)
				}
				for _, w := range []string{"container c1 (its journal says nothing: delete the pod", "remove " + file} {
					if !strings.Contains(err.Error(), w) {
						t.Errorf("%q: %v lacks %q", more, err, w)
					}
				}
			}
			if err := os.Remove(n.at(file)); err != nil {
				t.Fatal(err)
			}
			if _, _, err := n.run(append(uninstall, "1m")...); err != nil || n.get(ourConf) != "" {
				t.Error(err)
			}
		})
	}
}

// One that a call has just made says nothing yet: its pod is only busy.
func TestAttachedSaysNothingOfAJournalJustMade(t *testing.T) {
	n := newTree(t)
	store := &journal.Store{Dir: n.at("/s"), Now: time.Now}
	entry, err := store.Create(t.Context(), "c1")
	if err != nil {
		t.Fatal(err)
	}
	defer entry.Close()
	pods, err := attached{store: store, dir: network.DefaultStateDir}.pods(t.Context())
	if err != nil || len(pods) != 1 || pods[0].String() != "container c1" || !pods[0].Busy {
		t.Errorf("%v %v", err, pods)
	}
}

// The records of Multus in the old cniDir are those by which its pods that live
// are detached.
func TestInstallKeepsTheCNIDirOfPodsThatRun(t *testing.T) {
	const list, file = `[{"Bytes": %q}, {"Bytes": %q}]`, "/m/c1"
	of := func(name string) string {
		return base64Of(fmt.Sprintf(`{"cniVersion":"1.0.0","name":%q,"type":"bridge"}`, name))
	}
	n := newTree(t)
	with := func(more ...string) error {
		_, err := n.install(append([]string{"--set", "agentSocket="}, more...)...)
		return err
	}
	if err := with("--set", "cniDir=/m"); err != nil {
		t.Fatal(err)
	}
	n.put(file, fmt.Sprintf(list, of("cluster"), of("storage")))
	for _, more := range [][]string{nil, {"--set", "cniDir=/other"}} {
		was := n.get(ourConf)
		err := with(more...)
		if err == nil || n.get(ourConf) != was {
			t.Fatalf("%q: %v", more, err)
		}
		for _, w := range []string{"cniDir is to be", ourConf + " is /m", "container c1", "remove " + file} {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%q: %v lacks %q", more, err, w)
			}
		}
	}
	if err := with("--set", "cniDir=/m/", "--set", "logLevel=debug"); err != nil {
		t.Errorf("the same directory: %v", err)
	}
	n.put(file, fmt.Sprintf(`[{"Bytes": %q}]`, of("cluster")))
	if err := with(); err != nil {
		t.Errorf("the cluster network alone: %v", err)
	}
}
