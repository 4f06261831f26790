package multiplexer_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// obj is JSON as a test writes it.
type obj = map[string]any

// fixture is a node with the plugin on it, and one pod's namespace. Its
// networks are recorders unless a test says otherwise.
type fixture struct {
	*testing.T
	node *nettest.Node
	pod  *nettest.NS
	dir  string
	path []string
	// Overrides of a call, for the next ones.
	config      obj
	annotations map[string]string
	args        string
	netns       string
	version     string
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{
		T: t, node: nettest.HostNode(t), pod: nettest.Namespace(t, "pod-"), dir: t.TempDir(), version: "1.1.0",
		args: "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;K8S_POD_UID=0001",
	}
	f.netns = f.pod.Path()
	f.path = []string{nettest.RecorderAs(t, "recorder"), nettest.Plugins(t)}
	for _, d := range []string{"conf", "net.d", "rec/leases", "ipam", "state"} {
		f.must(os.MkdirAll(f.file(d), 0o755))
	}
	f.write("net.d/10-cluster.conflist", f.list("cluster", "10.0.0.0/24", nil))
	return f
}

func (f *fixture) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

func (f *fixture) file(name string) string { return filepath.Join(f.dir, name) }

// write puts a value into a file, as JSON unless it is a string.
func (f *fixture) write(name string, value any) {
	f.Helper()
	raw, ok := value.(string)
	if !ok {
		encoded, err := json.MarshalIndent(value, "", "  ")
		f.must(err)
		raw = string(encoded)
	}
	f.must(os.MkdirAll(filepath.Dir(f.file(name)), 0o755))
	f.must(os.WriteFile(f.file(name), []byte(raw), 0o644))
}

// plugin is a recorder's configuration.
func (f *fixture) plugin(subnet string, steps obj) obj {
	p := obj{"type": "recorder", "dir": f.file("rec"), "subnet": subnet}
	if steps != nil {
		p["steps"] = steps
	}
	return p
}

func (f *fixture) list(name, subnet string, steps obj) obj {
	return obj{"cniVersion": "1.0.0", "name": name, "plugins": []any{f.plugin(subnet, steps)}}
}

// linked are the steps of a recorder that makes a real interface.
func linked() obj { return obj{"ADD": []any{obj{"allocate": true}, obj{"link": true}}} }

// define adds shared networks a, b, ... each with a subnet of its own.
func (f *fixture) define(names ...string) {
	for i, name := range names {
		f.write("conf/"+name+".conflist", f.list(name, fmt.Sprintf("10.%d.0.0/24", 50+i), nil))
	}
}

func (f *fixture) networks(annotation string) *fixture {
	f.annotations = map[string]string{"k8s.v1.cni.cncf.io/networks": annotation}
	return f
}

// stdin is the plugin's configuration as the runtime would deliver it.
func (f *fixture) stdin(extra obj) []byte {
	conf := obj{
		"cniVersion": f.version, "name": "multiplexer", "type": "multiplexer", "agentSocket": "",
		"clusterConfDir": f.file("net.d"), "confDir": f.file("conf"), "stateDir": f.file("state"),
		"runtimeConfig": obj{"io.kubernetes.cri.pod-annotations": f.annotations},
	}
	maps.Copy(conf, f.config)
	maps.Copy(conf, extra)
	maps.DeleteFunc(conf, func(_ string, v any) bool { return v == nil })
	raw, err := json.Marshal(conf)
	f.must(err)
	return raw
}

func (f *fixture) call(verb, container string, extra obj) nettest.Outcome {
	f.Helper()
	return f.raw(verb, container, f.stdin(extra))
}

func (f *fixture) raw(verb, container string, stdin []byte) nettest.Outcome {
	f.Helper()
	out, err := f.node.CNI(f.Context(), f.request(verb, container, stdin))
	f.must(err)
	return out
}

func (f *fixture) request(verb, container string, stdin []byte) nettest.CNICall {
	f.Helper()
	call := nettest.CNICall{
		Bin: nettest.Binary(f), Command: verb, ContainerID: container, Netns: f.netns, IfName: "eth0",
		Args: f.args, Path: f.path, Stdin: stdin,
	}
	if verb == "GC" || verb == "STATUS" {
		call.ContainerID, call.Netns, call.IfName, call.Args = "", "", "", ""
	}
	return call
}

// ok fails the test when the call did.
func (f *fixture) ok(verb, container string) nettest.Outcome {
	f.Helper()
	out := f.call(verb, container, nil)
	if e := out.Error(); e != nil {
		f.Fatalf("%s: %s\n%s", verb, e, out.Stderr)
	}
	return out
}

// refused checks that a call failed with a code, and that its message has
// every one of the words: field, value, file, remedy.
func (f *fixture) refused(out nettest.Outcome, code uint, words ...string) {
	f.Helper()
	e := out.Error()
	if e == nil {
		f.Fatalf("succeeded, want code %d", code)
	}
	if e.Code != code {
		f.Errorf("code %d, want %d: %s", e.Code, code, e.Msg)
	}
	if e.CNIVersion == "" {
		f.Errorf("the error has no cniVersion: %s", out.Stdout)
	}
	for _, w := range words {
		if !strings.Contains(e.Msg, w) {
			f.Errorf("the message lacks %q: %s", w, e.Msg)
		}
	}
}

// calls returns what the recorders were asked, in order.
func (f *fixture) calls() []string {
	f.Helper()
	all, err := nettest.Calls(f.file("rec"))
	f.must(err)
	var out []string
	for _, c := range all {
		out = append(out, strings.Join([]string{c.Verb, c.Name, c.IfName}, " "))
	}
	return out
}

// called returns the recorded calls of one verb, whole.
func (f *fixture) called(verb string) []nettest.Call {
	f.Helper()
	all, err := nettest.Calls(f.file("rec"))
	f.must(err)
	return slices.DeleteFunc(all, func(c nettest.Call) bool { return c.Verb != verb })
}

func (f *fixture) forget() {
	f.Helper()
	f.must(os.RemoveAll(f.file("rec/calls.jsonl")))
}

func (f *fixture) want(got, want any) {
	f.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		f.Errorf("want(-) got(+):\n%s", diff)
	}
}

// snapshot is everything that a test could leave behind.
func (f *fixture) snapshot() string {
	f.Helper()
	return nettest.RequireSnapshot(f, nettest.SnapshotOptions{
		Namespaces: map[string]string{"node": f.node.Path(), "pod": f.pod.Path()},
		Dirs: []nettest.SnapshotDir{
			{Path: f.file("state"), Label: "state", Files: nettest.FileName},
			{Path: f.file("rec/leases"), Label: "leases", Files: nettest.FileContent},
			{Path: f.file("ipam"), Label: "ipam", Files: nettest.FileName},
		},
	})
}

// conf decodes what a recorder got on standard input.
func (f *fixture) conf(c nettest.Call) obj {
	f.Helper()
	var out obj
	f.must(json.Unmarshal([]byte(c.Stdin), &out))
	return out
}

// withoutIPAM leaves host-local's own files out of a snapshot: its lock and
// the last address it gave stay by design.
func withoutIPAM(snapshot string) string {
	var kept []string
	for line := range strings.SplitSeq(snapshot, "\n") {
		if !strings.Contains(line, "ipam/") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "\n")
}
