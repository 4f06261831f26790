package multiplexer_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

func TestBadConfiguration(t *testing.T) {
	for name, c := range map[string]struct {
		extra obj
		code  uint
		words []string
	}{
		"wrong type":      {obj{"namespaceIsolation": "yes"}, 7, []string{"namespaceIsolation", "string", "true or false"}},
		"wrong list":      {obj{"defaultNetworks": "a"}, 7, []string{"defaultNetworks", "array"}},
		"nested":          {obj{"timeout": obj{"add": 5}}, 7, []string{"timeout.add", "number", "a string"}},
		"duration":        {obj{"timeout": obj{"add": "soon"}}, 7, []string{"timeout.add", "soon", "100s"}},
		"budget":          {obj{"timeout": obj{"add": "10s", "del": "10s"}}, 7, []string{"timeout.add", "timeout.del"}},
		"range":           {obj{"clusterCIDRs": []string{"10.0.0.0"}}, 7, []string{"clusterCIDRs[0]", "10.0.0.0"}},
		"result":          {obj{"result": "all"}, 7, []string{"result", "all", `"merged"`}},
		"runtime":         {obj{"runtime": "docker"}, 7, []string{"runtime", "docker", "containerd"}},
		"log level":       {obj{"logLevel": "loud"}, 7, []string{"logLevel", "loud"}},
		"relative path":   {obj{"stateDir": "state"}, 7, []string{"stateDir", "absolute"}},
		"namespace":       {obj{"globalNamespaces": "a,B/.."}, 7, []string{"globalNamespaces", "B/.."}},
		"routing":         {obj{"routing": obj{"mode": "sbr"}}, 7, []string{"routing.mode", "sbr", "guard", "plain"}},
		"every address":   {obj{"clusterCIDRs": []string{"10.0.0.0/8", "::/0"}}, 7, []string{"clusterCIDRs[1]", "::/0", "Services"}},
		"embedded":        {obj{"embedded": []string{"fancy"}}, 7, []string{"embedded", "fancy"}},
		"annotations":     {obj{"runtimeConfig": obj{"io.kubernetes.cri.pod-annotations": []int{1}}}, 7, []string{"pod-annotations"}},
		"prevResult":      {obj{"prevResult": obj{"cniVersion": "1.0.0", "ips": 7}}, 6, []string{"prevResult"}},
		"name":            {obj{"name": "../x"}, 7, []string{"network name"}},
		"no name":         {obj{"name": ""}, 7, []string{"name"}},
		"version":         {obj{"cniVersion": "9.9.9"}, 1, []string{"version"}},
		"default network": {obj{"defaultNetworks": []string{"../../etc/passwd"}}, 7, []string{"defaultNetworks[0]"}},
		"missing default": {obj{"defaultNetworks": []string{"nowhere"}}, 7, []string{"defaultNetworks[0]", "nowhere", "conf"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			before := f.snapshot()
			f.refused(f.call("ADD", "c1", c.extra), c.code, c.words...)
			nettest.RequireSame(t, before, f.snapshot())
		})
	}
}

func TestBadStdin(t *testing.T) {
	f := newFixture(t)
	for stdin, code := range map[string]uint{"": 6, "{": 6, "[]": 6, "7": 6, "null": 7, "\x00": 6} {
		for _, verb := range []string{"ADD", "DEL", "CHECK", "GC", "STATUS"} {
			out := f.raw(verb, "c1", []byte(stdin))
			if verb == "ADD" || verb == "DEL" {
				f.refused(out, code)
			} else if out.Error() == nil {
				t.Errorf("%s with %q succeeded", verb, stdin)
			}
		}
	}
}

func TestBadArguments(t *testing.T) {
	f := newFixture(t)
	good := f.request("ADD", "c1", f.stdin(nil))
	for name, c := range map[string]struct {
		set   func(call *nettest.CNICall)
		code  uint
		words []string
	}{
		"container":      {func(c *nettest.CNICall) { c.ContainerID = "../../etc" }, 4, []string{"containerID"}},
		"long container": {func(c *nettest.CNICall) { c.ContainerID = strings.Repeat("a", 300) }, 4, []string{"CNI_CONTAINERID", "300"}},
		"interface":      {func(c *nettest.CNICall) { c.IfName = "a/b" }, 4, []string{"interface"}},
		"no interface":   {func(c *nettest.CNICall) { c.IfName = "" }, 4, []string{"CNI_IFNAME"}},
		"no namespace":   {func(c *nettest.CNICall) { c.Netns = "/run/netns/none" }, 8, []string{"CNI_NETNS", "/run/netns/none"}},
		"own namespace":  {func(c *nettest.CNICall) { c.Netns = f.node.Path() }, 8, []string{"CNI_NETNS", f.node.Path()}},
		"no namespace's": {func(c *nettest.CNICall) { c.Netns = "/etc/passwd" }, 8, []string{"CNI_NETNS", "/etc/passwd"}},
		"pair":           {func(c *nettest.CNICall) { c.Args = "K8S_POD_NAME" }, 4, []string{"CNI_ARGS", "K8S_POD_NAME"}},
		"pod namespace":  {func(c *nettest.CNICall) { c.Args = "K8S_POD_NAMESPACE=../bank;K8S_POD_NAME=x" }, 4, []string{"K8S_POD_NAMESPACE", "../bank"}},
		"verb":           {func(c *nettest.CNICall) { c.Command = "REPLACE" }, 4, []string{"REPLACE"}},
	} {
		t.Run(name, func(t *testing.T) {
			before := f.snapshot()
			call := good
			c.set(&call)
			out, err := f.node.CNI(t.Context(), call)
			f.must(err)
			f.T = t
			f.refused(out, c.code, c.words...)
			nettest.RequireSame(t, before, f.snapshot())
		})
	}
	f.want(f.calls(), []string(nil))
}

func TestBadAnnotation(t *testing.T) {
	long := strings.Repeat(" ", 1<<20) + "a"
	for name, c := range map[string]struct {
		annotation string
		words      []string
	}{
		"unknown network": {"nowhere", []string{`"nowhere"`, "conf", "shop/web"}},
		"path":            {"../conf/a", []string{"../conf/a"}},
		"slashes":         {"a/b/c", []string{"a/b/c"}},
		"empty item":      {"a,,a", []string{`""`}},
		"long":            {long, []string{"1048577 bytes", "262144"}},
		"many":            {strings.Repeat("a,", 199) + "a", []string{"200 networks", "64"}},
		"no JSON":         {`[{"name":`, []string{"k8s.v1.cni.cncf.io/networks", "JSON"}},
		"typo":            {`[{"name":"a","intrface":"x"}]`, []string{"intrface", "network 1"}},
		"interface":       {`[{"name":"a","interface":"too-long-for-the-kernel"}]`, []string{"interface", "too-long-for-the-kernel"}},
		"default routes":  {`[{"name":"a","default-route":[]},{"name":"a","default-route":["10.0.0.1"]}]`, []string{"default-route", "1 and 2"}},
		"cni-args":        {`[{"name":"a","cni-args":[1]}]`, []string{"cni-args", "object"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.define("a")
			before := f.snapshot()
			f.refused(f.networks(c.annotation).call("ADD", "c1", nil), 7, c.words...)
			nettest.RequireSame(t, before, f.snapshot())
			// The cluster network comes first, whatever the annotation says.
			f.want(f.calls(), []string{"ADD cluster eth0", "DEL cluster eth0"})
		})
	}
}

func TestBadDefinition(t *testing.T) {
	for name, c := range map[string]struct {
		definition string
		code       uint
		words      []string
	}{
		"args":        {`{"name":"a","type":"recorder","args":7}`, 7, []string{"args", "number"}},
		"args.cni":    {`{"name":"a","type":"recorder","args":{"cni":"x"}}`, 7, []string{"args.cni", "string"}},
		"slash":       {`{"name":"a","type":"../../bin/sh"}`, 7, []string{"../../bin/sh", "without a path"}},
		"no type":     {`{"name":"a"}`, 7, []string{`"type"`, `"plugins"`}},
		"null plugin": {`{"name":"a","plugins":[null]}`, 7, []string{"plugins[0]", "null"}},
		"no plugins":  {`{"name":"a","plugins":[]}`, 7, []string{"plugin"}},
		"type number": {`{"name":"a","plugins":[{"type":5}]}`, 7, []string{"plugins[0]", "number"}},
		"version":     {`{"name":"a","type":"recorder","cniVersion":"3.0.0"}`, 7, []string{"3.0.0"}},
		"meta":        {`{"name":"a","type":"multus"}`, 7, []string{"multus", "meta-plugin"}},
		"missing":     {`{"name":"a","plugins":[{"type":"recorder"},{"type":"no-such"}]}`, 7, []string{"no-such", "install"}},
		"null":        {`null`, 7, []string{"null"}},
		"no JSON":     {`name: a`, 7, []string{"JSON"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.write("conf/a.conf", c.definition)
			before := f.snapshot()
			out := f.networks(`[{"name":"a","cni-args":{"x":1}}]`).call("ADD", "c1", nil)
			f.refused(out, c.code, append(c.words, "a.conf")...)
			nettest.RequireSame(t, before, f.snapshot())
			f.want(f.calls(), []string{"ADD cluster eth0", "DEL cluster eth0"})
		})
	}
}

// A disk without space, at every line of the journal: refused, undone, said.
func TestDiskFull(t *testing.T) {
	for _, size := range []string{"4k", "8k", "12k", "16k", "20k", "24k"} {
		t.Run(size, func(t *testing.T) {
			f := newFixture(t)
			f.define("a", "b")
			mount(t, f.file("state"), size)
			before := f.snapshot()
			out := f.networks("a,b").call("ADD", "c1", nil)
			if out.Error() != nil {
				f.refused(out, 5, f.file("state"), "no space left on device", "stateDir")
			}
			f.ok("DEL", "c1")
			nettest.RequireSame(t, before, f.snapshot())
		})
	}
	t.Run("read-only", func(t *testing.T) {
		f := newFixture(t)
		f.define("a")
		mount(t, f.file("state"), "1m", "ro")
		f.refused(f.networks("a").call("ADD", "c1", nil), 5, f.file("state"), "read-only")
		f.want(f.calls(), []string(nil))
	})
}

func mount(t *testing.T, dir, size string, options ...string) {
	t.Helper()
	nettest.RequireRoot(t)
	if err := mountTmpfs(dir, fmt.Sprintf("size=%s%s", size, strings.Join(append([]string{""}, options...), ","))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unmount(dir); err != nil {
			t.Error(err)
		}
	})
}
