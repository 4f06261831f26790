package explain

import (
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
	"github.com/multiplexer-cni/multiplexer/pkg/journal"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/routing"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// asks are annotations as a runtime delivers them.
func asks(t *testing.T, annotations map[string]string) map[string]json.RawMessage {
	t.Helper()
	raw, err := json.Marshal(annotations)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]json.RawMessage{network.PodAnnotations: raw}
}

// node is a state directory with journals.
type node struct {
	*testing.T
	Explainer
}

func newNode(t *testing.T) *node {
	t.Helper()
	config, err := network.ParseConfig([]byte(`{"cniVersion":"1.0.0","name":"pods","type":"multiplexer","agentSocket":"","confDir":"` + t.TempDir() + `","clusterConfDir":"` + t.TempDir() + `"}`))
	if err != nil {
		t.Fatal(err)
	}
	return &node{t, Explainer{
		Store: &journal.Store{Dir: t.TempDir(), Now: time.Now}, Config: config, Boot: "boot", WithoutCluster: "no API server", WithoutAgent: "no agent",
	}}
}

// journal writes a journal of shop/web with the cluster network and one more.
func (n *node) journal(container, netns string, second network.Attachment, write func(*journal.Entry) error) {
	n.Helper()
	entry, err := n.Store.Create(n.Context(), container)
	if err != nil {
		n.Fatal(err)
	}
	err = entry.Begin(journal.Header{Container: container, IfName: "eth0", Netns: netns, Boot: "boot", Pod: "shop/web", UID: "u"})
	_, planErr := entry.Plan(network.Attachment{
		List: network.List{Name: "pods"}, Reference: "pods", Source: "/etc/cni/net.d/10-pods.conflist", IfName: "eth0", Cluster: true,
		CapabilityArgs: asks(n.T, map[string]string{network.NetworksAnnotation: "a", "other": "x"}),
	}, second)
	if err = errors.Join(err, planErr, entry.Adding(0), write(entry), entry.Close()); err != nil {
		n.Fatal(err)
	}
}

func (n *node) explain(pod string) *Explanation {
	n.Helper()
	namespace, name, _ := strings.Cut(pod, "/")
	x, err := n.Explain(n.Context(), namespace, name)
	if err != nil {
		n.Fatal(err)
	}
	return x
}

var second = network.Attachment{List: network.List{Name: "a"}, Reference: "shop/a", Source: "NetworkAttachmentDefinition shop/a", IfName: "net1"}

const addedResult = `{"cniVersion":"1.0.0","interfaces":[{"name":"net1","mac":"0a:00:00:00:00:01","sandbox":"/x"}],"ips":[{"address":"10.50.0.2/24","interface":0}]}`

// In which phase an attachment failed, and what to do, by the journal alone.
func TestProblems(t *testing.T) {
	added := func(e *journal.Entry) error {
		return errors.Join(e.Added(0, json.RawMessage(`{"cniVersion":"1.0.0"}`), nil), e.Adding(1))
	}
	whole := func(e *journal.Entry) error {
		return errors.Join(added(e), e.Added(1, json.RawMessage(addedResult), nil), e.Ready())
	}
	for name, c := range map[string]struct {
		write    func(*journal.Entry) error
		step     string
		problem  string
		settled  bool // nothing is to be done
		attached bool
	}{
		"attached":        {whole, "added", "", true, true},
		"killed at first": {func(*journal.Entry) error { return nil }, "planned", "ADD ended before it came to this network", false, false},
		"killed in it":    {added, "adding", "ADD did not end: its call was killed", false, false},
		"DEL failed": {func(e *journal.Entry) error {
			return errors.Join(whole(e), e.Release("DEL"), e.Deleting(1), e.Failed(1, errors.New("no\nlease")))
		}, "deleting", "DEL failed (tries of the container: 1): no lease", false, false},
		"DEL killed": {func(e *journal.Entry) error {
			return errors.Join(whole(e), e.Release("DEL"), e.Deleting(1))
		}, "deleting", "DEL did not end", false, false},
		"detached": {func(e *journal.Entry) error {
			return errors.Join(whole(e), e.Detach("uninstall"), e.Deleting(1), e.Deleted(1))
		}, "deleted", "", true, false},
		"a result of nobody": {func(e *journal.Entry) error {
			return errors.Join(added(e), e.Added(1, json.RawMessage(`{"cniVersion":"7.0.0"}`), nil), e.Ready())
		}, "added", "its result cannot be read", false, true},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			n.Boot = "boot"
			n.journal("c", nettest.Namespace(t, "pod-").Path(), second, c.write)
			x := n.explain("shop/web")
			got := x.Containers[0].Networks[1]
			if got.Step != c.step || !strings.HasPrefix(got.Problem, c.problem) || c.problem == "" && got.Problem != "" {
				t.Errorf("%+v", got)
			}
			if (got.Remedy == "") != c.settled {
				t.Errorf("remedy %q", got.Remedy)
			}
			if attached := x.Planned == nil; attached != c.attached {
				t.Errorf("planned: %+v", x.Planned)
			}
			if want := (Asked{network.NetworksAnnotation, "a", "the journal, as the runtime delivered it"}); x.Asked[0] != want || len(x.Asked) != 1 {
				t.Errorf("%+v", x.Asked)
			}
		})
	}
}

// A pod that a call works on at this moment has no problem.
func TestBusy(t *testing.T) {
	n := newNode(t)
	n.journal("c", nettest.Namespace(t, "pod-").Path(), second, func(*journal.Entry) error { return nil })
	entry, err := n.Store.Open(t.Context(), "c")
	if err != nil {
		t.Fatal(err)
	}
	if x := n.explain("shop/web"); x.Containers[0].State != "being attached" || x.Containers[0].Networks[1].Problem != "" {
		t.Errorf("%+v", x.Containers[0])
	}
	if err = entry.Close(); err != nil {
		t.Fatal(err)
	}
}

// Without agent and API server, the journal's annotation is resolved by the
// node's own files.
func TestPlannedFromFiles(t *testing.T) {
	n := newNode(t)
	file := func(dir, name, content string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file(n.Config.ClusterConfDir, "10-pods.conf", `{"cniVersion":"1.0.0","name":"pods","type":"bridge"}`)
	n.journal("c", "/run/netns/gone", second, func(*journal.Entry) error { return nil })
	x := n.explain("shop/web")
	if !strings.Contains(x.Planned.Error, `no network of the name "a"`) || !strings.HasPrefix(x.Planned.Remedy, "add the file") || len(x.Planned.Networks) != 1 {
		t.Errorf("%+v", x.Planned)
	}
	file(n.Config.ConfDir, "a.conf", `{"cniVersion":"1.0.0","name":"a","type":"macvlan"}`)
	x = n.explain("shop/web")
	if x.Planned.Error != "" || len(x.Planned.Networks) != 2 {
		t.Fatalf("%+v", x.Planned)
	}
	want := Network{Interface: "net1", Network: "a", Source: n.Config.ConfDir + "/a.conf", By: "the annotation, network 1", Plugins: []string{"macvlan"}}
	if diff := cmp.Diff(want, x.Planned.Networks[1]); diff != "" {
		t.Error(diff)
	}
	if x = n.explain("shop/none"); !x.Missing || x.Planned != nil {
		t.Errorf("%+v", x)
	}
}

// By what a pod gets each network, and which device was chosen.
func TestReasons(t *testing.T) {
	const every, cluster = "the configuration, for every pod", "the cluster network"
	chosen := `[{"name":"a"},{"name":"b","io.github.multiplexer-cni/device":{"id":"0000:01:00.0"}}]`
	for _, c := range []struct {
		attachments int
		annotations map[string]string
		chained     bool
		want        []string
	}{
		{1, map[string]string{}, false, []string{cluster}},
		{4, map[string]string{network.NetworksAnnotation: chosen}, false, []string{cluster, every, "the annotation, network 1", "the annotation, network 2 0000:01:00.0"}},
		{2, map[string]string{network.NetworksAnnotation: chosen}, true, []string{"the annotation, network 1", "the annotation, network 2 0000:01:00.0"}},
		{2, map[string]string{network.NetworksAnnotation: "a", network.DefaultNetworkAnnotation: "b"}, false,
			[]string{"annotation " + network.DefaultNetworkAnnotation, "the annotation, network 1"}},
		{2, map[string]string{}, false, []string{cluster, "the configuration or the namespace, for every pod of it"}},
		{2, nil, false, []string{cluster, every}},
		{1, map[string]string{network.NetworksAnnotation: "a,b,c"}, true, []string{"the annotation, network 3"}},
		{1, map[string]string{network.NetworksAnnotation: "a"}, false, []string{cluster}}, // its ADD did not come to the others
		{2, map[string]string{network.NetworksAnnotation: "["}, false, []string{cluster, every}},
	} {
		var got []string
		for _, w := range reasons(c.attachments, c.annotations, c.chained) {
			got = append(got, strings.TrimSpace(w.by+" "+w.choice.ID))
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%d, %v: %s", c.attachments, c.annotations, diff)
		}
	}
}

// Which device, and by which rule.
func TestDeviceOf(t *testing.T) {
	state := func(r sriov.Record) []byte {
		raw, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	of := network.Attachment{Resource: "intel.com/x", DeviceID: "0000:01:10.1"}
	for name, c := range map[string]struct {
		record journal.Record
		choice network.DeviceChoice
		want   *Device
	}{
		"none": {},
		"by resource": {journal.Record{Attachment: of}, network.DeviceChoice{}, &Device{"0000:01:10.1", "intel.com/x", "",
			"the first that no network before it took, of those of intel.com/x (resourceName of the definition) that kubelet gave the pod"}},
		"by ID": {journal.Record{Attachment: of}, network.DeviceChoice{ID: "0000:01:10.1"}, &Device{"0000:01:10.1", "intel.com/x", "", `chosen by its "id" in the annotation`}},
		"by master": {journal.Record{State: state(sriov.Record{PCI: "0000:01:10.1", PF: "0000:01:00.0", Index: 1, Picked: true})}, network.DeviceChoice{},
			&Device{"0000:01:10.1", "", "VF 1 of PF 0000:01:00.0", `a VF that was free, of the PF that "master" of the definition names`}},
		"named": {journal.Record{State: state(sriov.Record{PCI: "0000:01:00.0", PF: "0000:01:00.0", Index: -1})}, network.DeviceChoice{},
			&Device{"0000:01:00.0", "", "the PF itself", `"deviceID" of the definition`}},
		"another plugin's record": {journal.Record{State: []byte(`{"x":1}`)}, network.DeviceChoice{}, nil},
	} {
		if diff := cmp.Diff(c.want, deviceOf(&c.record, c.choice)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// Where the kernel cannot be asked, the plan says who was to carry what.
func TestRoutingByPlan(t *testing.T) {
	n := newNode(t)
	plan := routing.Plan{
		NICs: []routing.NIC{
			{Name: "eth0", Table: 30000, Addresses: []netip.Addr{netip.MustParseAddr("10.244.7.3")}},
			{Name: "net1", Attachment: 1, Table: 30001},
		},
		Ranges:   []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")},
		Carriers: [2]routing.Carrier{{Attachment: 1, NIC: "net1"}, {NIC: "eth0"}},
		Warnings: []string{"beware"},
	}
	raw, err := json.Marshal(plan)
	if err != nil {
		t.Fatal(err)
	}
	n.journal("c", "/run/netns/gone", second, func(e *journal.Entry) error { return e.SetRouting(raw) })
	c := n.explain("shop/web").Containers[0]
	want := []NIC{
		{"eth0", 30000, []string{"10.244.0.0/16", "everything else of IPv6"}, []string{"10.244.7.3"}},
		{"net1", 30001, []string{"everything else of IPv4"}, []string{}},
	}
	if diff := cmp.Diff(want, c.NICs); diff != "" || c.Kernel || !strings.Contains(c.Unread, "gone") || len(c.Warnings) != 1 {
		t.Errorf("%s, %+v", diff, c)
	}
}

// A cluster network that failed, and could not be undone, is the journal's only
// one: the annotation's come later. A chained one is not in it.
func TestClusterNetworkAlone(t *testing.T) {
	n := newNode(t)
	entry, err := n.Store.Create(t.Context(), "c")
	if err != nil {
		t.Fatal(err)
	}
	err = entry.Begin(journal.Header{Container: "c", IfName: "eth0", Netns: "/run/netns/gone", Boot: "boot", Pod: "shop/web"})
	_, planErr := entry.Plan(network.Attachment{
		List: network.List{Name: "pods"}, Reference: "pods", IfName: "eth0", Cluster: true,
		CapabilityArgs: asks(t, map[string]string{network.NetworksAnnotation: "a"}),
	})
	if err = errors.Join(err, planErr, entry.Adding(0), entry.Release("ADD"), entry.Deleting(0), entry.Failed(0, errors.New("bad")), entry.Close()); err != nil {
		t.Fatal(err)
	}
	if got := n.explain("shop/web").Containers[0].Networks[0].By; got != "the cluster network" {
		t.Errorf("by %q", got)
	}
}

// Names that are none never become part of a question.
func TestNames(t *testing.T) {
	n := newNode(t)
	for _, pod := range [][2]string{{"shop", "../x"}, {"..", "web"}, {"", "web"}, {"shop", ""}, {"shop", "web?x"}} {
		if _, err := n.Explain(t.Context(), pod[0], pod[1]); !errors.Is(err, network.Invalid) {
			t.Errorf("%q: %v", pod, err)
		}
	}
}

// A network whose plan line is damaged is one all the same.
func TestDamagedPlanLine(t *testing.T) {
	n := newNode(t)
	n.journal("c", nettest.Namespace(t, "pod-").Path(), second, func(e *journal.Entry) error {
		return errors.Join(e.Added(0, json.RawMessage(`{"cniVersion":"1.0.0"}`), nil), e.Adding(2), e.Added(2, json.RawMessage(addedResult), nil), e.Ready())
	})
	got := n.explain("shop/web").Containers[0].Networks
	if len(got) != 3 {
		t.Fatalf("%+v", got)
	}
	if hidden := got[2]; hidden.Step != "added" || !strings.Contains(hidden.Problem, "plan line is damaged") || !strings.Contains(hidden.Remedy, "delete the pod") || hidden.Network == "" || len(hidden.Addresses) > 0 {
		t.Errorf("%+v", hidden)
	}
	if got[1].Network != "shop/a" {
		t.Errorf("%+v", got[1])
	}
}

// A damaged journal may be the pod's.
func TestDamagedJournal(t *testing.T) {
	n := newNode(t)
	n.journal("c", "/run/netns/gone", second, func(*journal.Entry) error { return nil })
	if err := os.WriteFile(filepath.Join(n.Store.Dir, "journal", "d"), []byte("x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if x := n.explain("shop/other"); len(x.Notes) == 0 || !strings.Contains(x.Notes[0].What, "cannot be read") {
		t.Errorf("%+v", x.Notes)
	}
	if x := n.explain("shop/web"); strings.Contains(x.Notes[0].What, "cannot be read") {
		t.Errorf("%+v", x.Notes)
	}
}
