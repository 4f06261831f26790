package multus

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// node is a directory with what Multus 4.3.0 recorded of a pod with three
// networks: the cluster network's conflist from its file, a macvlan, and a
// conflist with an interface, an address and a MAC that the pod chose.
func node(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.CopyFS(dir, os.DirFS("testdata/v4.3.0")))
	must(t, filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			err = os.Chmod(path, 0o600)
		}
		return err
	}))
	return dir
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, dir string, call Call) *Record {
	t.Helper()
	r, err := Read(dir, "web", call)
	must(t, err)
	if r == nil || len(r.Problems) > 0 {
		t.Fatalf("%+v", r)
	}
	return r
}

// summary is one attachment in a line.
func summary(a *Attachment) string {
	words := []string{a.Reference, a.Name, a.CNIVersion, a.IfName, strings.Join(a.Types(), ",")}
	if a.Cluster {
		words = append(words, "cluster")
	}
	return strings.Join(words, " ")
}

func summaries(r *Record) (all []string) {
	for i := range r.Attachments {
		all = append(all, summary(&r.Attachments[i]))
	}
	return all
}

// pod is what every record of the pod says.
func pod() []string {
	return []string{"cluster cluster 1.0.0 eth0 bridge,portmap cluster", "shop/storage storage 0.3.1 net1 macvlan", "shop/lab lab 1.0.0 lab0 bridge,tuning"}
}

func same(t *testing.T, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want(-) got(+):\n%s", diff)
	}
}

func TestRead(t *testing.T) {
	dir := node(t)
	r := read(t, dir, Call{IfName: "eth0"})
	same(t, summaries(r), pod())
	for i := range r.Attachments {
		a := &r.Attachments[i]
		if a.Result == nil || a.Netns != "/run/netns/cni-web" || !slices.Contains(a.Args, [2]string{"K8S_POD_NAME", "web"}) || !strings.Contains(string(a.Plugins[0]), "/var/lib/cni/networks") {
			t.Errorf("%s: %+v", a, a)
		}
	}
	same(t, string(r.Attachments[0].CapabilityArgs["portMappings"]), `[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]`)
	same(t, string(r.Attachments[2].CapabilityArgs["ips"]), `["192.168.60.77/24"]`)
	same(t, string(r.Attachments[2].CapabilityArgs["mac"]), `"02:00:00:00:00:77"`)
	var files []string
	for _, f := range r.Files {
		files = append(files, strings.TrimPrefix(f, dir))
	}
	slices.Sort(files)
	same(t, files, []string{"/results/cluster-web-eth0", "/results/lab-web-lab0", "/results/storage-web-net1", "/web"})
}

// The list alone: the configurations are whole, what was asked for is there.
func TestReadTheListAlone(t *testing.T) {
	dir := node(t)
	must(t, os.RemoveAll(filepath.Join(dir, "results")))
	mapped := json.RawMessage(`[{"hostPort":8080}]`)
	r := read(t, dir, Call{IfName: "eth0", Args: [][2]string{{"K8S_POD_NAME", "web"}}, RuntimeConfig: map[string]json.RawMessage{"portMappings": mapped, network.PodAnnotations: []byte("{}")}})
	same(t, summaries(r), pod())
	for i := range r.Attachments {
		a := &r.Attachments[i]
		if a.Result != nil || a.Netns != "" || !strings.Contains(string(a.Plugins[0]), "/var/lib/cni/networks") {
			t.Errorf("%s: %+v", a, a)
		}
	}
	same(t, r.Attachments[0].CapabilityArgs["portMappings"], mapped)
	same(t, r.Attachments[2].CapabilityArgs, map[string]json.RawMessage{
		"portMappings": mapped, "ips": []byte(`["192.168.60.77/24"]`), "mac": []byte(`"02:00:00:00:00:77"`),
	})
}

// GC knows no interface: libcni's record of the first delegate does.
func TestReadWithoutAnInterface(t *testing.T) {
	dir := node(t)
	from, to := filepath.Join(dir, "results/cluster-web-eth0"), filepath.Join(dir, "results/cluster-web-pod0")
	raw, err := os.ReadFile(from)
	must(t, err)
	must(t, os.Remove(from))
	must(t, os.WriteFile(to, []byte(strings.Replace(string(raw), `"ifName":"eth0"`, `"ifName":"pod0"`, 1)), 0o600))
	same(t, read(t, dir, Call{}).Attachments[0].IfName, "pod0")
}

// Plugins that Multus found in the folder beside a conflist are in its list
// only: libcni's record has the file.
func TestReadPluginsOfAFolder(t *testing.T) {
	dir := node(t)
	path := filepath.Join(dir, "web")
	raw, err := os.ReadFile(path)
	must(t, err)
	var list []map[string]json.RawMessage
	must(t, json.Unmarshal(raw, &list))
	var whole map[string]any
	must(t, json.Unmarshal(list[0]["CNINetworkConfigList"], &whole))
	whole["Plugins"] = append(whole["Plugins"].([]any), map[string]any{"Bytes": []byte(`{"type":"sbr"}`)})
	list[0]["CNINetworkConfigList"], err = json.Marshal(whole)
	must(t, err)
	raw, err = json.Marshal(list)
	must(t, err)
	must(t, os.WriteFile(path, raw, 0o600))
	same(t, read(t, dir, Call{IfName: "eth0"}).Attachments[0].Types(), []string{"bridge", "portmap", "sbr"})
}

func TestReadNothing(t *testing.T) {
	for _, dir := range []string{node(t), t.TempDir(), "/nowhere"} {
		if r, err := Read(dir, "other", Call{}); r != nil || err != nil {
			t.Errorf("%s: %+v, %v", dir, r, err)
		}
	}
	if _, err := Read(node(t), "../web", Call{}); err == nil {
		t.Error("a path was taken for a container")
	}
}

func TestContainersAndGone(t *testing.T) {
	dir := node(t)
	containers, err := Containers(dir)
	must(t, err)
	same(t, containers, []string{"web"})
	r, root := read(t, dir, Call{}), t.TempDir()
	if !r.Gone(root) {
		t.Error("its namespace is not there")
	}
	must(t, os.MkdirAll(filepath.Join(root, "run/netns/cni-web"), 0o700))
	if r.Gone(root) {
		t.Error("its namespace is there")
	}
	must(t, os.RemoveAll(filepath.Join(dir, "results")))
	if read(t, dir, Call{}).Gone("/nowhere") {
		t.Error("nobody knows where its namespace was")
	}
}

// Whatever is in the files: what is returned can be run, or it is said.
func FuzzRead(f *testing.F) {
	// Small ones: Go's minimizing takes its time with others.
	conf := base64.StdEncoding.EncodeToString([]byte(`{"name":"storage","type":"a"}`))
	f.Add([]byte(`[{"Bytes":"`+conf+`","ifnameRequest":"net1"}]`),
		[]byte(`{"kind":"cniCacheV1","containerId":"web","ifName":"net1","networkName":"storage","config":"`+conf+`"}`))
	f.Fuzz(func(t *testing.T, list, result []byte) {
		const web, storage = "/multus/web", "/multus/results/storage-web-net1"
		r := &Record{}
		delegates, _ := parseList(web, list)
		var results []*cached
		if c, err := parseResult(storage, result); err == nil {
			results = append(results, c)
		}
		r.fill(delegates, results, web, Call{})
		for i := range r.Attachments {
			a := &r.Attachments[i]
			if a.Validate("a") != nil || network.ValidateInterface("a", a.IfName) != nil {
				t.Errorf("it cannot be run: %+v", a)
			}
		}
		if len(r.Attachments)+len(r.Problems) < len(delegates) || len(r.Files) > 2 {
			t.Errorf("%d delegates became %+v", len(delegates), r)
		}
	})
}

// A node's /var/run is a link to its own /run, or is not there in a container
// that has /run/netns alone.
func TestNamespacesBelowARoot(t *testing.T) {
	dir, root := node(t), t.TempDir()
	r := read(t, dir, Call{})
	for i := range r.Attachments {
		r.Attachments[i].Netns = "/var" + r.Attachments[i].Netns
	}
	if !r.Hidden(root) || r.Lives(root) {
		t.Error("the directory of its namespace is not there")
	}
	must(t, os.MkdirAll(filepath.Join(root, "run/netns"), 0o700))
	if r.Hidden(root) || r.Lives(root) || !r.Gone(root) {
		t.Error("the directory is there, and the namespace is not")
	}
	must(t, os.WriteFile(filepath.Join(root, "run/netns/cni-web"), nil, 0o400))
	for _, linked := range []bool{false, true} {
		if linked {
			must(t, os.Mkdir(filepath.Join(root, "var"), 0o700))
			must(t, os.Symlink("/run", filepath.Join(root, "var/run")))
		}
		if r.Hidden(root) || !r.Lives(root) || r.Gone(root) {
			t.Errorf("its namespace is there (link: %v)", linked)
		}
	}
}
