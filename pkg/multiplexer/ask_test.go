package multiplexer_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"testing"

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
