package explain

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/multiplexer-cni/multiplexer/pkg/journal"
	"github.com/multiplexer-cni/multiplexer/pkg/k8sclient"
)

// file writes a file of the node.
func (n *node) file(path, content string) {
	n.Helper()
	path = filepath.Join(n.Root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		n.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		n.Fatal(err)
	}
}

// multus records a container of shop/web with two networks as Multus does.
func (n *node) multus(container string) {
	n.Helper()
	var list []string
	for _, a := range [][3]string{
		{"pods", "eth0", `{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","mac":"0a:00:00:00:00:01","sandbox":"/x"}],"ips":[{"address":"10.244.0.2/24","interface":0}]}`},
		{"storage", "net1", "null"},
	} {
		conf := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, `{"cniVersion":"1.0.0","name":%q,"type":"bridge"}`, a[0]))
		list = append(list, fmt.Sprintf(`{"Name":%q,"Bytes":%q,"ifnameRequest":%q}`, a[0], conf, a[1]))
		n.file("/multus/results/"+a[0]+"-"+container+"-"+a[1], fmt.Sprintf(`{"kind":"cniCacheV1","containerId":%q,"ifName":%q,"networkName":%q,"netns":"/var/run/netns/%s","config":%q,
			"cniArgs":[["K8S_POD_NAMESPACE","shop"],["K8S_POD_NAME","web"],["K8S_POD_UID","u"]],"result":%s}`, container, a[1], a[0], container, conf, a[2]))
	}
	n.file("/multus/"+container, "["+strings.Join(list, ",")+"]")
}

// newMultusNode is a node with the records of a container, and an API server
// by which its pod runs.
func newMultusNode(t *testing.T) *node {
	t.Helper()
	n := newNode(t)
	n.Root, n.Config.CNIDir = t.TempDir(), "/multus"
	n.multus("c-web")
	n.Cluster = running{}
	return n
}

// running is an API server by which every pod runs.
type running struct{}

func (running) Pod(context.Context, string, string) (*k8sclient.SeenPod, error) {
	return &k8sclient.SeenPod{UID: "u", Node: "node-a", Phase: "Running"}, nil
}

func (running) Events(context.Context, string, string) ([]k8sclient.SeenEvent, error) {
	return nil, nil
}

// A pod that Multus attached has its networks: it is not to be started anew.
func TestAttachedByMultus(t *testing.T) {
	n := newMultusNode(t)
	n.file("/run/netns/c-web", "")
	x := n.explain("shop/web")
	if len(x.Containers) != 1 || x.Planned != nil || len(x.Notes) > 0 {
		t.Fatalf("%+v", x)
	}
	c := x.Containers[0]
	if !c.Live || c.UID != "u" || c.Netns != "/var/run/netns/c-web" || c.State != "attached by Multus; multiplexer detaches it by the records in /multus" {
		t.Errorf("%+v", c)
	}
	var got []string
	for _, a := range c.Networks {
		got = append(got, fmt.Sprintln(a.Interface, a.Network, a.Step, a.Plugins, a.Addresses, a.MAC, a.By))
	}
	want := []string{
		"eth0 pods added [bridge] [10.244.0.2] 0a:00:00:00:00:01 Multus, the cluster network\n",
		"net1 storage recorded [bridge] []  Multus, by the annotation or for every pod\n",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if rows := x.Sections()[1].Rows; slices.ContainsFunc(rows, func(r []string) bool { return strings.Contains(r[1], "since") }) {
		t.Errorf("%q", rows)
	}
	if other := n.explain("shop/other"); len(other.Containers) > 0 || !strings.Contains(other.Notes[0].Remedy, "started anew") {
		t.Errorf("another pod: %+v", other)
	}
	// Once there is a journal, it says how the container is.
	n.journal("c-web", "/var/run/netns/c-web", second, (*journal.Entry).Ready)
	if x = n.explain("shop/web"); len(x.Containers) != 1 || strings.Contains(x.Containers[0].State, "Multus") {
		t.Errorf("with a journal: %+v", x.Containers)
	}
}

// What is left over of an earlier pod of that name is no container of this one.
func TestRecordsOfMultusThatSayNothing(t *testing.T) {
	n := newMultusNode(t)
	x := n.explain("shop/web")
	if len(x.Containers) != 1 || !strings.Contains(x.Notes[0].What, "cannot be seen from here") || x.Planned != nil {
		t.Errorf("no directory of namespaces: %+v", x)
	}
	n.file("/run/netns/another", "")
	if x = n.explain("shop/web"); len(x.Containers) > 0 || !strings.Contains(x.Notes[0].Remedy, "started anew") {
		t.Errorf("its namespace is gone: %+v", x)
	}
	n.Unseen = func(path string) bool { return path == "/multus" }
	if x = n.explain("shop/web"); len(x.Containers) > 0 || !strings.Contains(x.Notes[0].What, "whether Multus did cannot be seen") {
		t.Errorf("in the agent's pod: %+v", x)
	}
}
