package multiplexer_test

import (
	"strings"
	"testing"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// every key of the standard, and where the delegate finds it.
func TestSelectionReachesDelegate(t *testing.T) {
	f := newFixture(t)
	f.write("net.d/10-cluster.conflist", f.list("cluster", "10.0.0.0/24", linked()))
	conf := f.list("a", "10.50.0.0/24", linked())
	plugin := conf["plugins"].([]any)[0].(obj)
	plugin["capabilities"] = obj{"ips": true, "mac": true, "portMappings": true, "bandwidth": true, "infinibandGUID": true}
	plugin["args"] = obj{"cni": obj{"keep": 1, "color": "red"}, "other": true}
	f.write("conf/a.conflist", conf)
	f.networks(`[{"name":"a","ips":["10.50.0.7/24","fd00::7"],"mac":"02:00:00:00:00:07",
		"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"UDP"}],
		"bandwidth":{"ingressRate":1000},"infiniband-guid":"c2:11:22:33:44:55:66:77","cni-args":{"color":"blue","n":{"x":[1]}}}]`)
	f.ok("ADD", "c1")
	f.ok("CHECK", "c1")
	f.ok("DEL", "c1")
	for _, verb := range []string{"ADD", "CHECK", "DEL"} {
		for _, c := range f.called(verb) {
			if c.Name != "a" {
				continue
			}
			got := f.conf(c)
			f.want(got["runtimeConfig"], any(obj{
				"ips": []any{"10.50.0.7/24", "fd00::7"}, "mac": "02:00:00:00:00:07",
				"portMappings":   []any{obj{"hostPort": 8080.0, "containerPort": 80.0, "protocol": "udp"}},
				"bandwidth":      obj{"ingressRate": 1000.0, "ingressBurst": 2147483647.0},
				"infinibandGUID": "c2:11:22:33:44:55:66:77",
			}))
			f.want(got["args"], any(obj{"cni": obj{"keep": 1.0, "color": "blue", "n": obj{"x": []any{1.0}}}, "other": true}))
			f.want(c.Args, "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;K8S_POD_UID=0001")
		}
	}
}

// What is asked for and not done is said.
func TestDefaultRouteIsNotDoneInSilence(t *testing.T) {
	f := newFixture(t)
	f.define("a")
	f.networks(`[{"name":"a","default-route":["10.50.0.1"]}]`)
	f.refused(f.call("ADD", "c1", nil), 7, "default-route", "net1", "no kernel device")
	f.config = obj{"routing": obj{"mode": "plain"}}
	out := f.ok("ADD", "c1")
	if !strings.Contains(string(out.Stderr), "default-route") {
		t.Errorf("standard error: %q", out.Stderr)
	}
}

func TestCapabilityMissing(t *testing.T) {
	for key, value := range map[string]string{
		"ips": `["10.50.0.7"]`, "mac": `"02:00:00:00:00:07"`, "bandwidth": `{"egressRate":5}`,
		"portMappings": `[{"hostPort":1,"containerPort":1}]`, "infiniband-guid": `"c2:11:22:33:44:55:66:77"`,
	} {
		f := newFixture(t)
		f.define("a")
		before := f.snapshot()
		f.refused(f.networks(`[{"name":"a","`+key+`":`+value+`}]`).call("ADD", "c1", nil), 7, key, "capabilit", `"a"`, "a.conflist")
		nettest.RequireSame(t, before, f.snapshot())
	}
}

func TestIPAMClaimReference(t *testing.T) {
	f := newFixture(t)
	f.define("a", "b")
	conf := f.list("b", "10.51.0.0/24", nil)
	conf["plugins"].([]any)[0].(obj)["capabilities"] = obj{"ipam-claim-reference": true}
	f.write("conf/b.conflist", conf)
	f.networks(`[{"name":"a","ipam-claim-reference":"vm1"},{"name":"b","ipam-claim-reference":"vm2"}]`).ok("ADD", "c1")
	calls := f.called("ADD")
	f.want(f.conf(calls[1])["args"], any(obj{"cni": obj{"ipam-claim-reference": "vm1"}}))
	f.want(f.conf(calls[2])["runtimeConfig"], any(obj{"ipam-claim-reference": "vm2"}))
}

// The runtime's own runtimeConfig and CNI_ARGS are about eth0: all that it
// declares reaches the cluster network, nothing the others.
func TestRuntimeConfigGoesToTheClusterNetworkOnly(t *testing.T) {
	f := newFixture(t)
	for file, name := range map[string]string{"net.d/10-cluster.conflist": "cluster", "conf/a.conflist": "a"} {
		conf := f.list(name, "10.50.0.0/24", nil)
		conf["plugins"].([]any)[0].(obj)["capabilities"] = obj{"portMappings": true, "ips": true, "io.kubernetes.cri.pod-annotations": true}
		f.write(file, conf)
	}
	f.args += ";IP=10.0.0.9;MAC=02:00:00:00:00:01"
	annotations := obj{"k8s.v1.cni.cncf.io/networks": "a", "x": "y"}
	runtimeConfig := obj{
		"portMappings": []any{obj{"hostPort": 80.0, "containerPort": 80.0}}, "ips": []any{"10.0.0.9/24"},
		"undeclared": true, "io.kubernetes.cri.pod-annotations": annotations,
	}
	if e := f.call("ADD", "c1", obj{"runtimeConfig": runtimeConfig}).Error(); e != nil {
		t.Fatal(e)
	}
	calls := f.called("ADD")
	delete(runtimeConfig, "undeclared")
	f.want(f.conf(calls[0])["runtimeConfig"], any(runtimeConfig))
	f.want(calls[0].Args, f.args)
	f.want(f.conf(calls[1])["runtimeConfig"], nil)
	f.want(calls[1].Args, "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;K8S_POD_UID=0001")
}

func TestDefaultNetworkAnnotation(t *testing.T) {
	f := newFixture(t)
	f.define("a")
	f.write("conf/shop/own.conflist", f.list("own", "10.60.0.0/24", nil))
	f.write("conf/kube-system/sys.conflist", f.list("sys", "10.61.0.0/24", nil))
	ask := func(network string) nettest.Outcome {
		f.annotations = map[string]string{"v1.multus-cni.io/default-network": network, "k8s.v1.cni.cncf.io/networks": "a"}
		return f.call("ADD", "c1", nil)
	}
	if e := ask("shop/own").Error(); e != nil {
		t.Fatal(e)
	}
	f.want(f.calls(), []string{"ADD own eth0", "ADD a net1"})
	f.ok("DEL", "c1")
	f.forget()
	// Without a namespace the name means multusNamespace, which isolation closes.
	f.refused(ask("sys"), 7, "kube-system", "shop", "globalNamespaces")
	f.refused(ask("shop/own@x"), 7, "interface")
	f.refused(ask("shop/own,a"), 7, "names 2 networks")
	f.want(f.calls(), []string(nil))
	f.config = obj{"namespaceIsolation": false}
	if e := ask("sys").Error(); e != nil {
		t.Fatal(e)
	}
	f.want(f.calls(), []string{"ADD sys eth0", "ADD a net1"})
}

func TestIsolation(t *testing.T) {
	setUp := func(t *testing.T) *fixture {
		f := newFixture(t)
		f.write("conf/shared.conflist", f.list("shared", "10.60.0.0/24", nil))
		f.write("conf/shop/own.conflist", f.list("own", "10.61.0.0/24", nil))
		f.write("conf/shop/both.conflist", f.list("both", "10.62.0.0/24", obj{"ADD": []any{obj{"touch": "shop"}, obj{"allocate": true}}}))
		f.write("conf/both.conflist", f.list("both", "10.62.0.0/24", obj{"ADD": []any{obj{"touch": "global"}, obj{"allocate": true}}}))
		f.write("conf/bank/vault.conflist", f.list("vault", "10.63.0.0/24", nil))
		f.write("conf/default/open.conflist", f.list("open", "10.64.0.0/24", nil))
		return f
	}
	t.Run("open", func(t *testing.T) {
		f := setUp(t)
		f.networks("own,shop/own,shared,default/open,default/shared,both").ok("ADD", "c1")
		f.want(f.calls(), []string{"ADD cluster eth0", "ADD own net1", "ADD own net2", "ADD shared net3", "ADD open net4", "ADD shared net5", "ADD both net6"})
		f.write("touched", "")
		entries, err := nettest.Calls(f.file("rec"))
		f.must(err)
		f.want(len(entries), 7)
	})
	for name, c := range map[string]struct {
		config     obj
		annotation string
		words      []string
	}{
		"another tenant's":          {nil, "bank/vault", []string{`"bank"`, `"shop"`, "globalNamespaces"}},
		"another tenant's in JSON":  {nil, `[{"name":"vault","namespace":"bank"}]`, []string{`"bank"`}},
		"another tenant's by name":  {nil, "vault", []string{`"vault"`, "shop"}},
		"path":                      {nil, `[{"name":"vault","namespace":"../conf/bank"}]`, []string{"namespace"}},
		"no namespace is open":      {obj{"globalNamespaces": ""}, "shared", []string{`"shared"`, "globalNamespaces"}},
		"default is no longer open": {obj{"globalNamespaces": "infra"}, "default/open", []string{`"default"`, "infra"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := setUp(t)
			f.config = c.config
			before := f.snapshot()
			f.refused(f.networks(c.annotation).call("ADD", "c1", nil), 7, c.words...)
			nettest.RequireSame(t, before, f.snapshot())
		})
	}
	t.Run("off", func(t *testing.T) {
		f := setUp(t)
		f.config = obj{"namespaceIsolation": false}
		f.networks("bank/vault").ok("ADD", "c1")
	})
}

func TestConfDirPrecedence(t *testing.T) {
	f := newFixture(t)
	// A conf before a conflist by file name, and a broken neighbour.
	f.write("conf/00-broken.conflist", `{"cniVersion": `)
	f.write("conf/01-a.conf", obj{"cniVersion": "1.0.0", "name": "a", "type": "no-such-plugin"})
	f.write("conf/99-a.conflist", f.list("a", "10.60.0.0/24", nil))
	f.networks("a").ok("ADD", "c1")
	f.refused(f.networks("b").call("ADD", "c2", nil), 7, `"b"`, "00-broken.conflist")
}

func TestAnnotationsNotDelivered(t *testing.T) {
	f := newFixture(t)
	f.refused(f.call("ADD", "c1", obj{"runtimeConfig": nil}), 7, "capabilities", "io.kubernetes.cri.pod-annotations")
	f.want(f.calls(), []string(nil))
	// A runtime without Kubernetes has no annotations to deliver.
	f.args = ""
	if e := f.call("ADD", "c1", obj{"runtimeConfig": nil}).Error(); e != nil {
		t.Fatal(e)
	}
	// A pod without annotations is a pod without networks.
	if e := f.call("ADD", "c2", obj{"runtimeConfig": obj{"io.kubernetes.cri.pod-annotations": nil}}).Error(); e != nil {
		t.Fatal(e)
	}
}

// Without the agent that the configuration names, plain pods start and pods
// that ask for networks are told to come again.
func TestAgentAbsent(t *testing.T) {
	f := newFixture(t)
	f.define("a")
	f.config = obj{"agentSocket": f.file("agent.sock")}
	f.ok("ADD", "plain")
	before := f.snapshot()
	f.refused(f.networks("a").call("ADD", "c1", nil), 11, "agent.sock", "no such file", "wait until it answers")
	nettest.RequireSame(t, before, f.snapshot())
}
