package multiplexer_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
	"github.com/multiplexer-cni/multiplexer/pkg/agentapi"
)

// agent answers the plugin with what it is given, and keeps the requests.
func (f *fixture) agent(known *agentapi.Known) *[]agentapi.Request {
	f.Helper()
	dir, err := os.MkdirTemp("", "agent") // a socket's path is at most 107 bytes long
	f.must(err)
	listener, err := agentapi.Listen(dir + "/agent.sock")
	f.must(err)
	requests := &[]agentapi.Request{}
	server := &agentapi.Server{Busy: 1, Log: slog.Default(), Answer: func(_ context.Context, r *agentapi.Request) (*agentapi.Known, error) {
		*requests = append(*requests, *r)
		return known, nil
	}}
	ctx, stop := context.WithCancel(f.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx, listener) }()
	f.Cleanup(func() {
		stop()
		f.must(<-ended)
		f.must(os.RemoveAll(dir))
	})
	f.config = obj{"agentSocket": dir + "/agent.sock"}
	return requests
}

// lastWord is what an agent left on disk.
func (f *fixture) lastWord(word agentapi.Copy) {
	f.Helper()
	f.must(word.Save(f.file("state")))
}

func definition(namespace, name string, config any) agentapi.Definition {
	d := agentapi.Definition{Reference: agentapi.Reference{Namespace: namespace, Name: name}}
	if config != nil {
		raw, _ := json.Marshal(config)
		d.Config = string(raw)
	}
	return d
}

// Definitions come from the agent, in one request, and only for pods that ask
// for something.
func TestDefinitionsFromTheAgent(t *testing.T) {
	f := newFixture(t)
	nameless := f.list("", "10.51.0.0/24", nil)
	delete(nameless, "name")
	requests := f.agent(&agentapi.Known{
		Definitions: []agentapi.Definition{
			definition("shop", "a", f.list("other", "10.50.0.0/24", nil)), definition("default", "b", nameless),
			definition("shop", "file", nil), definition("kube-system", "everybody", f.list("everybody", "10.53.0.0/24", nil)), definition("secret", "c", f.list("c", "10.54.0.0/24", nil)),
			definition("shop", "broken", 7), definition("shop", "meta", obj{"cniVersion": "1.0.0", "name": "meta", "type": "multus"}),
		},
	})
	f.write("conf/shop/file.conflist", f.list("file", "10.52.0.0/24", nil))
	f.lastWord(agentapi.Copy{})
	f.ok("ADD", "plain")
	f.want(len(*requests), 0)
	f.forget()

	f.config["defaultNetworks"] = []string{"everybody"}
	out := f.networks("a,default/b,file").ok("ADD", "c1")
	f.want(f.calls(), []string{"ADD cluster eth0", "ADD everybody net1", "ADD other net2", "ADD b net3", "ADD file net4"})
	if !strings.Contains(string(out.Stderr), `NetworkAttachmentDefinition shop/a: its name and the name of its configuration, \"other\", differ`) {
		t.Errorf("standard error: %s", out.Stderr)
	}
	f.want(len(*requests), 1)
	request := (*requests)[0]
	f.want(request.Pod, agentapi.Pod{Namespace: "shop", Name: "web", UID: "0001", Annotations: f.annotations})
	f.want(request.Networks, []agentapi.Reference{{Namespace: "kube-system", Name: "everybody"}})

	for networks, words := range map[string][]string{
		"d":        {"no NetworkAttachmentDefinition shop/d", "create it"},
		"secret/c": {"namespace \"secret\" is not open", "globalNamespaces"},
		"broken":   {"NetworkAttachmentDefinition shop/broken", "number"},
		"meta":     {"NetworkAttachmentDefinition shop/meta", "meta-plugin"},
	} {
		refused := f.networks(networks).call("ADD", "c2", nil)
		f.refused(refused, refused.Error().Code, words...)
	}
	f.config["agentSocket"] = f.file("gone") // DEL asks nobody
	f.ok("DEL", "c1")
	f.ok("DEL", "plain")
}

// A cluster network that is a definition comes from the agent; one that is a
// file of the node needs none.
func TestClusterNetworkFromTheAgent(t *testing.T) {
	f := newFixture(t)
	requests := f.agent(&agentapi.Known{Definitions: []agentapi.Definition{definition("kube-system", "main", f.list("main", "10.55.0.0/24", nil))}})
	f.config["clusterNetwork"] = "main"
	f.ok("ADD", "c1")
	f.want(f.calls(), []string{"ADD main eth0"})
	f.want((*requests)[0].Networks, []agentapi.Reference{{Namespace: "kube-system", Name: "main"}})
	f.config["agentSocket"] = f.file("gone")
	f.refused(f.call("ADD", "c2", nil), 11, "clusterNetwork \"main\"", "wait until it answers")
	f.config["clusterNetwork"] = "cluster"
	f.ok("ADD", "c2")
}

// A container that was never attached must be deletable, whatever is known of
// a cluster network that is a definition: the last word has not heard of it,
// says that it was deleted, or has it without the device that it needs.
func TestDelOfNothingWithTheClusterNetworkFromTheAgent(t *testing.T) {
	main := definition("kube-system", "main", obj{"cniVersion": "1.0.0", "type": "recorder"})
	main.ResourceName = "intel.com/sriov"
	references := []agentapi.Reference{main.Reference}
	for name, word := range map[string]*agentapi.Copy{
		"no last word":   nil,
		"not heard of":   {},
		"deleted":        {Networks: references},
		"needs a device": {Networks: references, Definitions: []agentapi.Definition{main}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			if word != nil {
				f.lastWord(*word)
			}
			f.config = obj{"agentSocket": f.file("gone"), "clusterNetwork": "main"}
			refused := f.call("ADD", "c1", nil)
			f.refused(refused, refused.Error().Code, "clusterNetwork")
			before := f.snapshot()
			out := f.ok("DEL", "c1") // the runtime's cleanup
			if !strings.Contains(string(out.Stderr), "nothing to detach") {
				t.Errorf("standard error: %s", out.Stderr)
			}
			f.want(f.calls(), []string(nil))
			nettest.RequireSame(t, before, f.snapshot())
		})
	}
}

// The agent's ranges count as the configuration's do.
func TestRangesFromTheAgent(t *testing.T) {
	f := newFixture(t).realCluster()
	f.hostLinks()
	f.wan("a")
	raw, err := os.ReadFile(f.file("conf/a.conflist"))
	f.must(err)
	var wan obj
	f.must(json.Unmarshal(raw, &wan))
	f.agent(&agentapi.Known{
		Definitions: []agentapi.Definition{definition("shop", "a", wan)},
		Facts:       agentapi.Facts{Ranges: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("10.96.0.0/12")}},
	})
	f.config["routing"] = obj{"strict": true}
	f.networks(`[{"name":"a","default-route":["10.50.0.1"]}]`).ok("ADD", "c1")
	if rules := f.ip("rule"); !strings.Contains(rules, "to 10.96.0.0/12 lookup 30000") {
		t.Errorf("rules:\n%s", rules)
	}
	f.ok("DEL", "c1")
}

// A namespace's networks are those of its pods without an annotation of
// their own. Which namespaces have some the last word says, so a plain pod
// of another needs no agent.
func TestNetworksOfTheNamespace(t *testing.T) {
	f := newFixture(t)
	requests := f.agent(&agentapi.Known{NamespaceNetworks: "a", Definitions: []agentapi.Definition{
		definition("shop", "a", f.list("a", "10.50.0.0/24", nil)), definition("shop", "b", f.list("b", "10.51.0.0/24", nil)),
	}})
	add := func(container string, calls ...string) {
		t.Helper()
		f.forget()
		f.ok("ADD", container)
		f.want(f.calls(), calls)
	}
	add("new", "ADD cluster eth0", "ADD a net1") // no last word yet: the agent is asked
	f.lastWord(agentapi.Copy{Namespaces: []string{"shop"}})
	add("c1", "ADD cluster eth0", "ADD a net1")
	f.networks("b")
	add("c2", "ADD cluster eth0", "ADD b net1")
	f.networks("") // asks for none in so many words
	add("c3", "ADD cluster eth0")
	f.annotations = nil
	f.config["namespaceDefaults"] = false
	add("c4", "ADD cluster eth0")
	delete(f.config, "namespaceDefaults")
	f.want(len(*requests), 3)

	socket := f.config["agentSocket"]
	f.config["agentSocket"] = f.file("gone")
	f.forget()
	f.refused(f.call("ADD", "c5", nil), 11, `namespace "shop" has networks of its own`, "wait until it answers")
	f.want(f.calls(), []string(nil)) // nothing to undo
	f.lastWord(agentapi.Copy{Namespaces: []string{"other"}})
	add("c5", "ADD cluster eth0")
	f.must(os.Remove(f.file("state/cluster.json")))
	out := f.ok("ADD", "c6") // never was an agent here: it hinders nobody
	if !strings.Contains(string(out.Stderr), "no agent has run on this node yet") {
		t.Errorf("standard error: %s", out.Stderr)
	}
	f.config["agentSocket"] = socket
	f.refused(f.networks("c").call("ADD", "c7", nil), 7, "annotation k8s.v1.cni.cncf.io/networks, network 1", "no NetworkAttachmentDefinition shop/c")
	failure := (*requests)[len(*requests)-1]
	if failure.Verb != agentapi.VerbFailed || failure.Failure.Reason != "NoNetworkFound" || !strings.Contains(failure.Failure.Text, "shop/c") {
		t.Errorf("%+v", failure)
	}
}

// With the agent down, default networks come from its last word.
func TestDefaultNetworksFromTheLastWord(t *testing.T) {
	f := newFixture(t)
	f.config = obj{"agentSocket": f.file("gone"), "defaultNetworks": []string{"everybody"}}
	f.refused(f.call("ADD", "c1", nil), 11, "defaultNetworks", "wait until it answers")
	f.ok("STATUS", "")
	reference := agentapi.Reference{Namespace: "kube-system", Name: "everybody"}
	f.lastWord(agentapi.Copy{
		Networks: []agentapi.Reference{reference}, Definitions: []agentapi.Definition{definition("kube-system", "everybody", f.list("everybody", "10.53.0.0/24", nil))},
		Facts: agentapi.Facts{Runtime: "cri-o"},
	})
	f.forget()
	f.ok("ADD", "c1")
	f.want(f.calls(), []string{"ADD cluster eth0", "ADD everybody net1"})
	f.refused(f.networks("a").call("ADD", "c2", nil), 11, "wait until it answers")
	f.annotations = nil
	f.lastWord(agentapi.Copy{Networks: []agentapi.Reference{reference}})
	f.refused(f.call("ADD", "c2", nil), 7, "defaultNetworks[0]", "no NetworkAttachmentDefinition kube-system/everybody")
	f.write("state/cluster.json", "{")
	// A word that was there and cannot be read may have spoken of this namespace.
	f.refused(f.call("ADD", "c2", nil), 11, "whether namespace \"shop\" has networks of its own is not known", "cluster.json", "wait until it answers")
	f.agent(&agentapi.Known{})
	f.config["defaultNetworks"] = []string{"file"}
	f.write("conf/file.conflist", f.list("file", "10.54.0.0/24", nil))
	f.forget()
	f.ok("ADD", "c2") // the node's own network
	f.want(f.calls(), []string{"ADD cluster eth0", "ADD file net1"})
}

// Annotations that the runtime did not deliver come from the agent.
func TestAnnotationsFromTheAgent(t *testing.T) {
	f := newFixture(t)
	requests := f.agent(&agentapi.Known{
		Annotations: map[string]string{"k8s.v1.cni.cncf.io/networks": "a"},
		Definitions: []agentapi.Definition{definition("shop", "a", f.list("a", "10.50.0.0/24", nil))},
	})
	f.config["runtimeConfig"] = nil
	f.ok("ADD", "c1")
	f.want(f.calls(), []string{"ADD cluster eth0", "ADD a net1"})
	f.want((*requests)[0].Pod.Annotations == nil, true)
	f.config["agentSocket"] = f.file("gone")
	f.refused(f.call("ADD", "c2", nil), 11, "did not deliver the pod's annotations", "wait until it answers")
	f.ok("DEL", "c1")
	f.config["agentSocket"] = ""
	f.refused(f.call("ADD", "c2", nil), 7, "io.kubernetes.cri.pod-annotations")
	// null is what containerd sends for a pod without any.
	f.config["agentSocket"] = f.file("gone")
	f.config["runtimeConfig"] = obj{"io.kubernetes.cri.pod-annotations": nil}
	f.lastWord(agentapi.Copy{})
	f.ok("ADD", "c2")
}

// A network of a resource gets a device of the pod, in every plugin's
// configuration; no device is handed out twice.
func TestDevicesOfThePod(t *testing.T) {
	f := newFixture(t)
	withDevice := func(name, subnet string) agentapi.Definition {
		d := definition("shop", name, f.list(name, subnet, nil))
		d.ResourceName = "intel.com/sriov"
		return d
	}
	known := &agentapi.Known{
		Definitions: []agentapi.Definition{withDevice("a", "10.50.0.0/24"), withDevice("b", "10.51.0.0/24"), definition("shop", "plain", f.list("plain", "10.52.0.0/24", nil))},
		Devices: []agentapi.Device{
			{Container: "app", Resource: "intel.com/sriov", ID: "0000:3b:02.1"}, {Container: "side", Resource: "intel.com/sriov", ID: "0000:3b:02.0"},
		},
	}
	f.agent(known)
	devices := func(container string) map[string]string {
		t.Helper()
		raw, err := os.ReadFile(f.file("state/journal/" + container))
		f.must(err)
		out := map[string]string{}
		for line := range strings.Lines(string(raw)) {
			var event struct {
				Plan []struct {
					IfName, DeviceID string
					Plugins          []struct{ DeviceID, PCIBusID string }
				}
			}
			_, body, _ := strings.Cut(line, " ")
			f.must(json.Unmarshal([]byte(body), &event))
			for _, a := range event.Plan {
				for _, p := range a.Plugins {
					if p.DeviceID != a.DeviceID || p.PCIBusID != a.DeviceID {
						t.Errorf("%s: device %s, its plugins' %+v", a.IfName, a.DeviceID, a.Plugins)
					}
				}
				out[a.IfName] = a.DeviceID
			}
		}
		return out
	}
	f.networks("a,plain,b").ok("ADD", "c1")
	f.want(devices("c1"), map[string]string{"eth0": "", "net1": "0000:3b:02.1", "net2": "", "net3": "0000:3b:02.0"})
	f.networks(`[{"name":"a"},{"name":"a","io.github.multiplexer-cni/device":{"container":"app"}}]`).ok("ADD", "c2")
	f.want(devices("c2"), map[string]string{"eth0": "", "net1": "0000:3b:02.0", "net2": "0000:3b:02.1"})
	f.annotations["v1.multus-cni.io/default-network"] = "shop/b"
	f.refused(f.call("ADD", "c3", nil), 7, "needs a device of \"intel.com/sriov\"", "taken by network \"shop/b\" (annotation v1.multus-cni.io/default-network)", "ask for 3")
	f.networks("a").ok("ADD", "c3")
	f.refused(f.networks(`[{"name":"plain","cni-args":{"deviceID":"0000:3b:09.0"}}]`).call("ADD", "c4", nil), 7, "0000:3b:09.0", "none of the pod's 2")
	f.networks(`[{"name":"plain","cni-args":{"deviceID":"0000:3b:02.0"}}]`).ok("ADD", "c4")
	f.want(devices("c4"), map[string]string{"eth0": "", "net1": "0000:3b:02.0"})
	known.Devices = []agentapi.Device{}
	f.refused(f.networks("a").call("ADD", "c5", nil), 7, "the pod has none", "device plugin")
	known.Devices = nil
	f.refused(f.call("ADD", "c5", nil), 11, "does not answer")
	f.config["agentSocket"] = ""
	f.define("a")
	f.refused(f.networks(`[{"name":"a","cni-args":{"pciBusID":"0000:3b:02.0"}}]`).call("ADD", "c5", nil), 7, "node's agent alone")
}

// A cluster network of a resource gets its device too, also for a pod that
// asks for nothing: there it is the plan that asks the agent.
func TestDeviceOfTheClusterNetwork(t *testing.T) {
	f := newFixture(t)
	f.lastWord(agentapi.Copy{})
	main := definition("kube-system", "main", f.list("main", "10.55.0.0/24", nil))
	main.ResourceName = "intel.com/sriov"
	known := &agentapi.Known{
		Definitions: []agentapi.Definition{main},
		Devices:     []agentapi.Device{{Container: "app", Resource: "intel.com/sriov", ID: "0000:3b:02.0"}},
	}
	requests := f.agent(known)
	f.config["clusterNetwork"] = "main"
	f.ok("ADD", "c1")
	f.want(f.conf(f.called("ADD")[0])["deviceID"], "0000:3b:02.0")
	f.want(len(*requests), 1)
	f.lastWord(agentapi.Copy{Networks: []agentapi.Reference{main.Reference}, Definitions: known.Definitions})
	f.config["agentSocket"] = f.file("gone")
	f.refused(f.call("ADD", "c2", nil), 11, "clusterNetwork \"kube-system/main\" needs a device", "does not answer")
}

// Without a journal, its device is found as at ADD; where nobody knows it, the
// other networks are detached all the same.
func TestEmptyJournalOfAClusterNetworkWithADevice(t *testing.T) {
	f := newFixture(t)
	main, everybody := definition("kube-system", "main", f.list("main", "10.55.0.0/24", nil)), definition("kube-system", "everybody", f.list("everybody", "10.53.0.0/24", nil))
	main.ResourceName = "intel.com/sriov"
	definitions := []agentapi.Definition{main, everybody}
	f.agent(&agentapi.Known{Definitions: definitions, Devices: []agentapi.Device{{Container: "app", Resource: "intel.com/sriov", ID: "0000:3b:02.0"}}})
	f.lastWord(agentapi.Copy{Networks: []agentapi.Reference{main.Reference, everybody.Reference}, Definitions: definitions})
	f.config["clusterNetwork"], f.config["defaultNetworks"] = "main", []string{"everybody"}
	for _, there := range []bool{true, false} {
		f.ok("ADD", "c1")
		f.must(os.Truncate(f.file("state/journal/c1"), 0))
		f.forget()
		if !there { // it may tell later
			socket := f.config["agentSocket"]
			f.config["agentSocket"] = f.file("gone")
			f.refused(f.call("DEL", "c1", nil), 5, "does not answer")
			f.want(f.leases("everybody"), 0)
			f.want(f.calls(), []string{"DEL everybody net1"})
			f.config["agentSocket"] = socket
			f.forget()
		}
		f.ok("DEL", "c1")
		f.want(f.leases("everybody"), 0)
		f.want(f.calls(), []string{"DEL everybody net1", "DEL main eth0"})
		f.want(f.conf(f.called("DEL")[1])["deviceID"], "0000:3b:02.0")
	}
}

// The agent is told of each journal that is complete, if it wants to know.
func TestPublish(t *testing.T) {
	f := newFixture(t)
	f.lastWord(agentapi.Copy{})
	known := &agentapi.Known{Definitions: []agentapi.Definition{definition("shop", "a", f.list("a", "10.50.0.0/24", nil))}}
	requests := f.agent(known)
	f.networks("a").ok("ADD", "c1")
	f.want(len(*requests), 1)
	known.Publish = true
	f.ok("ADD", "c2")
	f.want(len(*requests), 3)
	f.want((*requests)[2].Verb+" "+(*requests)[2].Container, "publish c2")
	f.annotations = nil
	f.ok("ADD", "plain")
	f.want(len(*requests), 3)
}
