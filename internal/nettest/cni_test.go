package nettest

import (
	"fmt"
	"path/filepath"
	"testing"
)

// The reference plugins do in a node what they do on a host, and a full cycle
// leaves nothing that the cycle before did not leave.
func TestReferencePluginsInNode(t *testing.T) {
	node, pod, ipam := HostNode(t), Namespace(t, "pod-"), t.TempDir()
	plugins := Plugins(t)
	cycle := func(verb string) Outcome {
		t.Helper()
		out, err := node.CNI(t.Context(), CNICall{
			Bin: filepath.Join(plugins, "bridge"), Command: verb, ContainerID: "c1", Netns: pod.Path(), IfName: "eth0",
			Path: []string{plugins},
			Stdin: fmt.Appendf(nil, `{"cniVersion":"1.0.0","name":"net","type":"bridge","bridge":"cni0","isGateway":true,
				"isDefaultGateway":true,"ipam":{"type":"host-local","dataDir":%q,"subnet":"10.8.0.0/24"}}`, ipam),
		})
		if err != nil {
			t.Fatal(err)
		}
		if e := out.Error(); e != nil {
			t.Fatalf("%s: %s", verb, e)
		}
		return out
	}
	snapshot := func() string {
		return RequireSnapshot(t, SnapshotOptions{
			Namespaces: map[string]string{"node": node.Path(), "pod": pod.Path()},
			Dirs:       []SnapshotDir{{Path: filepath.Join(ipam, "net"), Label: "IPAM", Files: FileMeta}},
		})
	}
	cycle("ADD") // the bridge stays, and so does the last address given
	cycle("DEL")
	before := snapshot()
	if _, err := cycle("ADD").Result(); err != nil {
		t.Fatal(err)
	}
	if err := pod.PingICMP(t.Context(), From{}, "10.8.0.1"); err != nil {
		t.Error(err)
	}
	if snapshot() == before {
		t.Error("the snapshot does not show the pod's network")
	}
	cycle("DEL")
	RequireSame(t, before, snapshot())
}
