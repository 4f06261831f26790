package agenttest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/multiplexer-cni/multiplexer/internal/kubelettest"
	"github.com/multiplexer-cni/multiplexer/internal/kubetest"
	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// samplePage is where the samples stand.
const samplePage = "../../docs/troubleshooting.md"

// samples are the blocks behind the commands of the page's first section. A
// line "..." stands for lines that were left out.
func samples(t *testing.T) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	block := regexp.MustCompile("(?s)```console\n# multiplexerd ([^\n]+)\n(.*?)```")
	for _, m := range block.FindAllStringSubmatch(section(t, samplePage, "## Begin with doctor and explain"), -1) {
		out[m[1]] = strings.Split(strings.TrimRight(m[2], "\n"), "\n")
	}
	return out
}

// alike replaces what is another at each run by something of the same length.
func (n *Node) alike(text string) string {
	for pattern, same := range map[string]string{
		`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`:                              "2026-01-02T03:04:05Z",
		`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`: "7d9e2f4c-5b1a-4c3e-9f60-2a8b7c6d5e4f",
		`([0-9a-f]{2}:){5}[0-9a-f]{2}`:                                 "0a:58:0a:32:00:02",
		`/run/netns/pod-[0-9a-f]+`:                                     "/run/netns/cni-4f1d",
		regexp.QuoteMeta(n.File("net.d")):                              "/etc/cni/net.d",
	} {
		text = regexp.MustCompile(pattern).ReplaceAllString(text, same)
	}
	return text
}

// The samples of docs/troubleshooting.md are what the tool prints.
func TestSamples(t *testing.T) {
	t.Parallel()
	own := kubetest.Start(t) // the definitions of other tests would be in the samples
	if err := Prepare(own, "../../deploy"); err != nil {
		t.Fatal(err)
	}
	n := New(t, own)
	clusterNetwork, err := json.Marshal(obj{"cniVersion": "1.0.0", "name": "cluster", "type": "ptp", "ipam": obj{
		"type": "host-local", "subnet": "10.244.7.0/24", "dataDir": n.File("leases"), "routes": []any{obj{"dst": "0.0.0.0/0"}},
	}})
	n.must(err)
	n.must(os.WriteFile(n.File("net.d/10-cluster.conflist"), clusterNetwork, 0o644))
	n.Flags = []string{"--sweep", "1h"}
	n.StartAgent()
	n.WaitReady()
	n.Install()
	for _, plugin := range []string{"ptp", "host-local", "static"} {
		n.must(os.Symlink(filepath.Join(nettest.Plugins(t), plugin), n.File("bin/"+plugin)))
	}
	n.must(nettest.InstallRecorder(n.File("bin"), "host-device")) // there is no such device
	n.Path = append([]string{n.File("bin")}, n.Path...)
	n.Config = obj{"clusterCIDRs": []string{"10.244.0.0/16", "10.96.0.0/12"}}
	n.Define("shop", "backup", obj{"cniVersion": "1.0.0", "name": "backup", "type": "macvlan", "master": "eth1"}, "")
	n.Define("shop", "storage", ptp("storage", "10.50.0.2/24", "10.50.0.1"), "")
	radio := n.With(n.List("radio", "10.51.0.0/24"), "capabilities", obj{"deviceID": true})
	n.Define("shop", "radio", n.With(radio, "type", "host-device"), "intel.com/radio")
	web := n.Pod("web-0", `[{"name":"storage","default-route":["10.50.0.1"]},{"name":"radio"}]`)
	n.Kubelet.SetPod("shop", "web-0", kubelettest.Container{Name: "app", Devices: []kubelettest.Device{{Resource: "intel.com/radio", ID: "0000:3b:02.1"}}})
	n.OK("ADD", web)
	failing := n.Pod("web-1", "storrage")
	n.Refused(n.Run("ADD", failing), 7)
	left := n.Pod("web-2", "")
	n.OK("ADD", left)
	n.must(left.NS.Replace())
	n.Until("the event is there", func() (bool, string) {
		events := n.Events(failing)
		return len(events) == 1, strings.Join(events, "\n")
	})
	flags := n.admin()
	said := map[string]string{}
	for command := range samples(t) {
		more := flags
		if command == "doctor" {
			more = append([]string{"--metrics-address", n.MetricsAddress()}, flags[:2]...)
		}
		out, _, _ := n.Tool(append(strings.Fields(command), more...)...)
		said[command] = n.alike(out)
	}
	if len(said) < 3 {
		t.Errorf("%s has %d samples", samplePage, len(said))
	}
	for command, lines := range samples(t) {
		if wrong := missing(strings.Split(said[command], "\n"), lines); wrong != "" {
			t.Errorf("%s: %s: %q is not printed there; it prints:\n%s", samplePage, command, wrong, said[command])
		}
	}
}

// missing is the first line of a sample that is not printed where the sample
// has it, or "".
func missing(printed, sample []string) string {
	at, skip := 0, false
	for _, line := range sample {
		if line == "..." {
			skip = true
			continue
		}
		for skip && at < len(printed) && printed[at] != line {
			at++
		}
		if at == len(printed) || printed[at] != line {
			return line
		}
		at, skip = at+1, false
	}
	return ""
}
