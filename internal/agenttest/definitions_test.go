package agenttest

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// obj is JSON as a test writes it.
type obj = map[string]any

// ready is a node whose agent runs.
func ready(t *testing.T, flags ...string) *Node {
	t.Helper()
	t.Parallel()
	n := New(t, cluster)
	n.Flags = flags
	n.StartAgent()
	n.WaitReady()
	return n
}

func (n *Node) same(got, want any) {
	n.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		n.Errorf("want(-) got(+):\n%s", diff)
	}
}

// conf is what a recorder got on standard input.
func (n *Node) conf(c nettest.Call) obj {
	n.Helper()
	var out obj
	n.must(json.Unmarshal([]byte(c.Stdin), &out))
	return out
}

// eventually waits for an event of the pod that begins so and says the words.
func (n *Node) eventually(p *Pod, begin string, words ...string) {
	n.Helper()
	n.Until("the pod has the event "+begin, func() (bool, string) {
		events := n.Events(p)
		for _, e := range events {
			found := strings.HasPrefix(e, begin)
			for _, w := range words {
				found = found && strings.Contains(e, w)
			}
			if found {
				return true, ""
			}
		}
		return false, strings.Join(events, "\n")
	})
}

// names are the networks of the pod's status, in order.
func (n *Node) names(p *Pod) []string {
	n.Helper()
	var out []string
	for _, s := range n.Shown(p) {
		out = append(out, fmt.Sprint(s["name"]))
	}
	return out
}

// patch changes an object by a merge patch.
func (n *Node) patch(path string, change any) {
	n.Helper()
	answer, err := n.Cluster.Do("PATCH", path, change)
	n.must(err)
	n.must(answer.Err())
}

// linked are the steps of a recorder that makes a real interface.
func linked() obj { return obj{"ADD": []any{obj{"allocate": true}, obj{"link": true}}} }

// cluster makes a list the cluster network.
func (n *Node) cluster(list obj) {
	n.Helper()
	raw, err := json.Marshal(list)
	n.must(err)
	n.must(os.WriteFile(n.File("net.d/10-cluster.conflist"), raw, 0o644))
}

func (n *Node) undefine(namespace, name string) {
	n.Helper()
	answer, err := n.Cluster.Do("DELETE", "/apis/k8s.cni.cncf.io/v1/namespaces/"+namespace+"/network-attachment-definitions/"+name, nil)
	n.must(err)
	n.must(answer.Err())
}

// A definition may be a conf or a conflist, with a name of its own or
// without, or the name of a file; DEL needs none of it.
func TestDefinitions(t *testing.T) {
	n := ready(t)
	conf := obj{"cniVersion": "1.0.0", "name": "defs-conf", "type": "recorder", "dir": n.File("rec"), "subnet": "10.51.0.0/24"}
	nameless, namelessList := obj{"cniVersion": "1.0.0", "type": "recorder", "dir": n.File("rec"), "subnet": "10.52.0.0/24"}, n.List("", "10.53.0.0/24")
	delete(namelessList, "name")
	for name, config := range map[string]any{
		"defs-conf": conf, "defs-nameless": nameless, "defs-list": namelessList, "defs-other": n.List("another", "10.54.0.0/24"), "defs-file": nil,
	} {
		n.Define("shop", name, config, "")
	}
	raw, err := json.Marshal(n.List("defs-file", "10.55.0.0/24"))
	n.must(err)
	n.must(os.WriteFile(n.File("conf/x.conflist"), raw, 0o644))

	p := n.Pod("defs", "defs-conf,defs-nameless@ten, shop/defs-list ,defs-other,defs-file,defs-conf")
	out := n.OK("ADD", p)
	if !strings.Contains(string(out.Stderr), `NetworkAttachmentDefinition shop/defs-other: its name and the name of its configuration, \"another\", differ`) {
		t.Errorf("no warning that the names differ: %s", out.Stderr)
	}
	attached := []string{"cluster eth0", "defs-conf net1", "defs-nameless ten", "defs-list net3", "another net4", "defs-file net5", "defs-conf net6"}
	n.same(n.Called("ADD", p), attached)
	n.same(n.names(p), []string{"cluster", "shop/defs-conf", "shop/defs-nameless", "shop/defs-list", "shop/defs-other", "shop/defs-file", "shop/defs-conf"})

	n.KillAgent()
	n.undefine("shop", "defs-conf")
	n.must(os.Remove(n.File("conf/x.conflist")))
	n.OK("DEL", p)
	n.same(n.Called("DEL", p), []string{"defs-conf net6", "defs-file net5", "another net4", "defs-list net3", "defs-nameless ten", "defs-conf net1", "cluster eth0"})
	adds, dels := n.Calls("ADD"), n.Calls("DEL")
	for i := range adds {
		was, is := n.conf(adds[i]), n.conf(dels[len(dels)-1-i])
		delete(is, "prevResult")
		n.same(is, was)
	}
}

// Whose networks a pod may use holds on every way to name one.
func TestIsolation(t *testing.T) {
	n := ready(t)
	n.Namespace("iso-theirs", "")
	n.Namespace("iso-ours", "iso-theirs/iso-a")
	n.lastWord(`"iso-ours"`, true)
	n.Define("iso-theirs", "iso-a", n.List("iso-a", "10.51.0.0/24"), "")
	n.Define("default", "iso-all", n.List("iso-all", "10.52.0.0/24"), "")
	other := func(namespace, annotation, value string) *Pod {
		p := n.NewPod(namespace, fmt.Sprintf("iso-%d", len(n.Calls("ADD"))), "")
		if annotation != "" {
			p.Annotations[annotation] = value
		}
		return p
	}
	const networks, cluster = "k8s.v1.cni.cncf.io/networks", "v1.multus-cni.io/default-network"
	for _, test := range []struct {
		namespace, annotation, value string
		config                       obj
		refused                      bool
	}{
		{"shop", networks, "iso-theirs/iso-a", nil, true},
		{"shop", cluster, "iso-theirs/iso-a", nil, true},
		{"iso-ours", "", "", nil, true},
		{"iso-theirs", networks, "iso-a", nil, false},
		{"shop", networks, "default/iso-all", nil, false},
		{"shop", cluster, "default/iso-all", nil, false},
		{"shop", networks, "default/iso-all", obj{"globalNamespaces": "iso-theirs"}, true},
		{"shop", networks, "iso-theirs/iso-a", obj{"globalNamespaces": "default,iso-theirs"}, false},
		{"shop", networks, "iso-theirs/iso-a", obj{"namespaceIsolation": false}, false},
		{"iso-ours", "", "", obj{"namespaceIsolation": false}, false},
		{"shop", "", "", obj{"defaultNetworks": []string{"iso-theirs/iso-a"}}, false}, // the administrator's choice
	} {
		n.Config = test.config
		p := other(test.namespace, test.annotation, test.value)
		before := len(n.Calls("ADD"))
		if out := n.Run("ADD", p); test.refused {
			n.Refused(out, 7, "is not open to pods of namespace", "globalNamespaces")
			// Nothing of the network was attached: at most the cluster's own was.
			for _, c := range n.Calls("ADD")[before:] {
				n.same(c.Name, "cluster")
			}
		} else if e := out.Error(); e != nil {
			t.Errorf("%+v: %s", test, e)
		} else if len(n.Calls("ADD")) == before {
			t.Errorf("%+v: nothing was attached", test)
		}
		n.OK("DEL", p)
	}
}

// The cluster network and the default networks may be definitions. Those of
// the agent's last word serve plain pods when it is gone.
func TestConfiguredNetworks(t *testing.T) {
	n := ready(t)
	n.Define("kube-system", "conf-main", n.List("conf-main", "10.51.0.0/24"), "")
	n.Define("kube-system", "conf-all", n.List("conf-all", "10.52.0.0/24"), "")
	n.Config = obj{"clusterNetwork": "conf-main", "defaultNetworks": []string{"conf-all"}}
	p := n.Pod("conf-one", "")
	// A network that only the configuration names is not looked for at the API server, but it comes by the watch.
	n.Until("the definitions are known", func() (bool, string) {
		out := n.Run("ADD", p)
		return out.Error() == nil, out.String()
	})
	n.same(n.names(p), []string{"kube-system/conf-main", "kube-system/conf-all"})
	n.OK("DEL", p)

	n.Define("kube-system", "conf-all", n.List("conf-all", "10.53.0.0/24"), "")
	n.Until("the last word says it", func() (bool, string) {
		raw, err := os.ReadFile(n.File("state/cluster.json"))
		return strings.Contains(string(raw), "10.53.0.0/24"), fmt.Sprintf("%s %v", raw, err)
	})
	n.KillAgent()
	plain := n.Pod("conf-two", "")
	n.OK("ADD", plain)
	n.same(n.Called("ADD", plain), []string{"conf-main eth0", "conf-all net1"})
	if raw := n.Calls("ADD")[len(n.Calls("ADD"))-1].Stdin; !strings.Contains(raw, "10.53.0.0/24") {
		t.Errorf("not the definition's newest state: %s", raw)
	}
	n.Refused(n.Run("ADD", n.Pod("conf-three", "default/conf-all")), 11, "wait until it answers")
	n.OK("DEL", plain)
}

// A definition that came together with its pod is found; one that never did
// is told to the pod's owner; one that went away while its pod lives is
// neither needed by CHECK nor by DEL.
func TestDefinitionsComeAndGo(t *testing.T) {
	n := ready(t)
	n.cluster(n.Stepped("cluster", "10.0.0.0/16", linked()))
	missing := n.Pod("come-missing", "come-never")
	n.Refused(n.Run("ADD", missing), 7, "network 1 \"come-never\"", "no NetworkAttachmentDefinition shop/come-never", "create it")
	n.same(n.Called("DEL", missing), []string{"cluster eth0"})
	n.eventually(missing, "Warning NoNetworkFound 1 ", "shop/come-never")

	var pods []*Pod
	for i := range 5 {
		name := fmt.Sprintf("come-%d", i)
		p := n.Pod(name, name)
		n.Define("shop", name, n.Stepped(name, fmt.Sprintf("10.6%d.0.0/24", i), linked()), "")
		n.OK("ADD", p)
		n.same(n.Called("ADD", p), []string{"cluster eth0", name + " net1"})
		n.undefine("shop", name)
		pods = append(pods, p)
	}
	again := n.Pod("come-again", "come-0")
	n.Until("the definition is gone", func() (bool, string) {
		out := n.Run("ADD", again)
		if out.Error() == nil {
			n.OK("DEL", again)
			return false, "it is still there"
		}
		n.Refused(out, 7, "no NetworkAttachmentDefinition shop/come-0")
		return true, ""
	})
	for i, p := range pods {
		n.OK("CHECK", p)
		n.OK("DEL", p)
		n.same(n.Called("DEL", p), []string{fmt.Sprintf("come-%d net1", i), "cluster eth0"})
	}
}

// One network twice is two attachments, and two entries.
func TestSameNetworkTwice(t *testing.T) {
	n := ready(t)
	n.Define("shop", "twice", n.List("twice", "10.51.0.0/24"), "")
	p := n.Pod("twice", "twice,twice")
	n.OK("ADD", p)
	status := n.Shown(p)
	if len(status) != 3 {
		t.Fatalf("network-status: %v", status)
	}
	n.same([]any{status[1]["name"], status[1]["interface"], status[2]["name"], status[2]["interface"]}, []any{"shop/twice", "net1", "shop/twice", "net2"})
	n.same(cmp.Equal(status[1]["ips"], status[2]["ips"]), false)
	n.OK("DEL", p)
}

// What a selection says reaches the plugin that can do with it: an IPAM
// claim's name as a capability or as an argument, addresses as a capability.
func TestSelectionsReachThePlugin(t *testing.T) {
	n := ready(t)
	capable := n.With(n.List("claim-a", "10.51.0.0/24"), "capabilities", obj{"ipam-claim-reference": true, "ips": true, "mac": true})
	n.Define("shop", "claim-a", capable, "")
	n.Define("shop", "claim-b", n.List("claim-b", "10.52.0.0/24"), "")
	p := n.Pod("claim", `[{"name":"claim-a","ipam-claim-reference":"vm.one"},{"name":"claim-b","ipam-claim-reference":"vm.two"},
		{"name":"claim-a","ips":["10.51.0.77"],"mac":"02:00:00:00:00:01","cni-args":{"k":["v"]}}]`)
	n.OK("ADD", p)
	calls := n.Calls("ADD")
	n.same(n.conf(calls[1])["runtimeConfig"], any(obj{"ipam-claim-reference": "vm.one"}))
	n.same(n.conf(calls[2])["args"], any(obj{"cni": obj{"ipam-claim-reference": "vm.two"}}))
	n.same(n.conf(calls[3])["runtimeConfig"], any(obj{"ips": []any{"10.51.0.77"}, "mac": "02:00:00:00:00:01"}))
	n.same(n.conf(calls[3])["args"], any(obj{"cni": obj{"k": []any{"v"}}}))
	n.OK("DEL", p)
	n.Refused(n.Run("ADD", n.Pod("claim-ips", `[{"name":"claim-a","ipam-claim-reference":"vm.one","ips":["10.51.0.78"]}]`)), 7, "ipam-claim-reference", "ips")
	n.Refused(n.Run("ADD", n.Pod("claim-not", `[{"name":"claim-b","ips":["10.52.0.78"]}]`)), 7, "capability \"ips\"")
}
