package agenttest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"

	nadv1 "github.com/k8snetworkplumbingwg/network-attachment-definition-client/pkg/apis/k8s.cni.cncf.io/v1"
)

// nettypes is the pod's status as clients of the annotation read it: with
// their types, and with no key that they do not know but Multus's.
func (n *Node) nettypes(p *Pod) []nadv1.NetworkStatus {
	n.Helper()
	n.Shown(p)
	answer, err := n.Cluster.Do("GET", "/api/v1/namespaces/"+p.Namespace+"/pods/"+p.Name, nil)
	n.must(err)
	var pod struct {
		Metadata struct{ Annotations map[string]string }
	}
	n.must(answer.Into(&pod))
	value := pod.Metadata.Annotations[nadv1.NetworkStatusAnnot]
	if value == "" {
		return nil
	}
	var entries []obj
	n.must(json.Unmarshal([]byte(value), &entries))
	for _, e := range entries {
		delete(e, "default-route") // NPWG 5.3.6.4; the client's types lack it
	}
	strict, err := json.Marshal(entries)
	n.must(err)
	var out []nadv1.NetworkStatus
	decoder := json.NewDecoder(bytes.NewReader(strict))
	decoder.DisallowUnknownFields()
	n.must(decoder.Decode(&out))
	return out
}

// answering are the steps of a recorder that makes an interface and claims a
// result of its own.
func answering(result obj) obj {
	return obj{"ADD": []any{obj{"allocate": true}, obj{"link": true}, obj{"result": result}}}
}

// What a network's plugins say is on the pod: addresses of the first
// interface in the sandbox alone, MAC, MTU, gateway, DNS; the default is the
// cluster network's, and default-route names who carries it.
func TestStatus(t *testing.T) {
	n := ready(t)
	p := n.NewPod("shop", "status", `status-a,[]`)
	result := func(ifname, address, gateway, mac string) obj {
		return obj{
			"cniVersion": "1.0.0",
			"interfaces": []any{obj{"name": "host0", "mac": "02:00:00:00:00:ff"}, obj{"name": ifname, "mac": mac, "mtu": 1400, "sandbox": p.Netns}, obj{"name": ifname + "x", "sandbox": p.Netns}},
			"ips":        []any{obj{"interface": 1, "address": address, "gateway": gateway}, obj{"interface": 2, "address": "10.99.0.9/24"}},
			"routes":     []any{obj{"dst": "0.0.0.0/0"}, obj{"dst": "10.7.0.0/16"}},
			"dns":        obj{"nameservers": []any{"10.51.0.53"}, "domain": ifname + ".example", "search": []any{"a.example", "b.example"}},
		}
	}
	n.Config = obj{"routing": obj{"mode": "plain"}} // what is shown, not what is set
	n.cluster(n.Stepped("cluster", "10.0.0.0/16", answering(result("eth0", "10.0.0.2/16", "10.0.0.1", "02:00:00:00:00:01"))))
	n.Define("shop", "status-a", n.Stepped("status-a", "10.51.0.0/24", answering(result("net1", "10.51.0.2/24", "10.51.0.1", "02:00:00:00:00:02"))), "")
	n.Define("shop", "status-none", n.Stepped("status-none", "10.52.0.0/24", obj{"ADD": []any{obj{"result": obj{"cniVersion": "1.0.0"}}}}), "")
	p.Annotations["k8s.v1.cni.cncf.io/networks"] = "status-a,status-none"
	n.CreatePod(p)
	n.OK("ADD", p)
	entry := func(name, ifname, address, gateway, mac string, cluster bool) nadv1.NetworkStatus {
		return nadv1.NetworkStatus{
			Name: name, Interface: ifname, IPs: []string{address}, Mac: mac, Mtu: 1400, Default: cluster, Gateway: []string{gateway},
			DNS: nadv1.DNS{Nameservers: []string{"10.51.0.53"}, Domain: ifname + ".example", Search: []string{"a.example", "b.example"}},
		}
	}
	n.same(n.nettypes(p), []nadv1.NetworkStatus{
		entry("cluster", "eth0", "10.0.0.2", "10.0.0.1", "02:00:00:00:00:01", true),
		entry("shop/status-a", "net1", "10.51.0.2", "10.51.0.1", "02:00:00:00:00:02", false),
		{Name: "shop/status-none"},
	})
	for i, s := range n.Status(p) { // NPWG 5.3.5: also false is said
		n.same(s["default"], any(i == 0))
	}
	n.OK("DEL", p)
}

// A selection's default-route is shown, and the routes as the rules left them.
func TestStatusOfDefaultRoutes(t *testing.T) {
	n := ready(t)
	wan := func(address, gateway string) obj {
		return answering(obj{
			"cniVersion": "1.0.0", "interfaces": []any{obj{"name": "net1", "sandbox": "in"}},
			"ips": []any{obj{"interface": 0, "address": address, "gateway": gateway}}, "routes": []any{obj{"dst": "0.0.0.0/0", "gw": gateway}},
		})
	}
	n.cluster(n.Stepped("cluster", "10.0.0.0/16", linked()))
	n.Define("shop", "droute-a", n.Stepped("droute-a", "10.51.0.0/24", wan("10.51.0.2/24", "10.51.0.1")), "")
	for name, test := range map[string]struct {
		selection string
		gateway   []string
		selected  any
	}{
		"droute-moved": {`[{"name":"droute-a","default-route":["10.51.0.1"]}]`, []string{"10.51.0.1"}, []any{"10.51.0.1"}},
		"droute-not":   {`[{"name":"droute-a"}]`, nil, nil},
	} {
		p := n.Pod(name, test.selection)
		n.OK("ADD", p)
		status := n.nettypes(p)
		if len(status) != 2 {
			t.Fatalf("%s: %+v", name, status)
		}
		n.same(fmt.Sprint(status[1].Gateway), fmt.Sprint(test.gateway))
		n.same(fmt.Sprint(n.Status(p)[1]["default-route"]), fmt.Sprint(test.selected))
		n.same([]bool{status[0].Default, status[1].Default}, []bool{true, false}) // NPWG 5.2: the cluster network's, whoever has the route
		n.OK("DEL", p)
	}
}

// Behind another plugin in a chain, that one's result is the cluster
// network's.
func TestStatusInAChain(t *testing.T) {
	n := ready(t)
	n.Define("shop", "chain-a", n.List("chain-a", "10.51.0.0/24"), "")
	p := n.Pod("chain", "chain-a")
	n.Config = obj{"name": "flannel", "prevResult": obj{
		"cniVersion": "1.0.0", "interfaces": []any{obj{"name": "eth0", "sandbox": p.Netns, "mac": "02:00:00:00:00:01"}},
		"ips": []any{obj{"interface": 0, "address": "10.244.7.3/24", "gateway": "10.244.7.1"}},
	}}
	n.OK("ADD", p)
	n.same(n.nettypes(p), []nadv1.NetworkStatus{
		{Name: "flannel", Interface: "eth0", IPs: []string{"10.244.7.3"}, Mac: "02:00:00:00:00:01", Default: true},
		{Name: "shop/chain-a", Interface: "net1", IPs: []string{"10.51.0.2"}},
	})
	delete(n.Config, "prevResult")
	n.OK("DEL", p)
	n.same(n.Called("DEL", p), []string{"chain-a net1"})
}

// A status that was lost is shown again from the journal, by an agent that
// has not seen its ADD.
func TestStatusAfterARestart(t *testing.T) {
	n := ready(t)
	n.Define("shop", "restart-a", n.List("restart-a", "10.51.0.0/24"), "")
	p, second := n.Pod("restart", "restart-a"), n.Pod("restart-b", "restart-a")
	n.OK("ADD", p)
	n.OK("ADD", second)
	want := n.nettypes(p)
	n.KillAgent()
	path := "/api/v1/namespaces/shop/pods/"
	n.patch(path+p.Name, obj{"metadata": obj{"annotations": obj{nadv1.NetworkStatusAnnot: nil}}})
	n.patch(path+second.Name, obj{"metadata": obj{"annotations": obj{nadv1.NetworkStatusAnnot: `[{"name":"somebody's"}]`}}})
	n.OK("DEL", second) // its journal is gone: what it shows is nobody's any more
	n.StartAgent()
	n.WaitReady()
	n.Until("the status is shown again", func() (bool, string) { return n.Status(p) != nil, "" })
	n.same(n.nettypes(p), want)
	n.same(n.names(second), []string{"somebody's"})
	n.OK("DEL", p)
}

// --publish says which pods get a status, and when nobody waits for it.
func TestWhichPodsShowStatus(t *testing.T) {
	for which, want := range map[string][2]bool{"multi": {false, true}, "all": {true, true}, "off": {false, false}} {
		t.Run(which, func(t *testing.T) {
			n := ready(t, "--publish", which)
			n.Define("shop", "publish-"+which, n.List("publish-"+which, "10.51.0.0/24"), "")
			plain, multi := n.Pod("plain-"+which, ""), n.Pod("multi-"+which, "publish-"+which)
			n.OK("ADD", plain)
			n.OK("ADD", multi)
			n.untilMetric(`multiplexer_journal_entries{state="attached"}`, "2")
			third := n.Pod("third-"+which, "publish-"+which)
			n.OK("ADD", third)
			n.untilMetric(`multiplexer_journal_entries{state="attached"}`, "3") // another look: what the first took up is done
			if want[0] {
				n.Until("the plain pod shows its network", func() (bool, string) { return n.Status(plain) != nil, "" })
			}
			if want[1] {
				n.Shown(multi)
			}
			n.same([2]bool{n.Status(plain) != nil, n.Status(multi) != nil}, want)
		})
	}
}
