package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// What `multiplexerd journal CONTAINER` shows of a pod with two NICs: who
// carries what as the kernel has it, and what somebody changed since.
func TestJournalShowsRouting(t *testing.T) {
	node, pod, dir := nettest.HostNode(t), nettest.Namespace(t, "pod-"), t.TempDir()
	network := func(name, address, gateway string) {
		conf := fmt.Sprintf(`{"cniVersion":"1.0.0","name":%q,"type":"ptp","ipam":{"type":"static","addresses":[{"address":%q,"gateway":%q}],"routes":[{"dst":"0.0.0.0/0"}]}}`,
			name, address, gateway)
		if err := os.WriteFile(filepath.Join(dir, name+".conf"), []byte(conf), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	network("cluster", "10.244.7.3/24", "10.244.7.1")
	network("a", "10.50.0.2/24", "10.50.0.1")
	call := nettest.CNICall{
		Bin: nettest.Binary(t), Command: "ADD", ContainerID: "abc", Netns: pod.Path(), IfName: "eth0", Path: []string{nettest.Plugins(t)},
		Args: "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web",
		Stdin: []byte(`{"cniVersion":"1.0.0","name":"cluster","type":"multiplexer","agentSocket":"","clusterCIDRs":["10.244.0.0/16"],"clusterNetwork":"` + dir + `/cluster.conf","confDir":"` + dir + `","stateDir":"` + dir + `/state",
			"runtimeConfig":{"io.kubernetes.cri.pod-annotations":{"k8s.v1.cni.cncf.io/networks":"[{\"name\":\"a\",\"default-route\":[\"10.50.0.1\"]}]"}}}`),
	}
	out, err := node.CNI(t.Context(), call)
	if err != nil || out.Error() != nil {
		t.Fatal(err, out)
	}
	text, err := journalOf(dir)
	if err != nil {
		t.Error(err)
	}
	for _, want := range []string{
		"eth0 30000 10.244.0.0/16, node-local DNS 10.244.7.3",
		"net1 30001 10.50.0.0/24, 10.50.0.1, everything else 10.50.0.2",
		"warning: network \"a\" (net1) moves the IPv4 default route to net1",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("lacks %q:\n%s", want, text)
		}
	}
	if raw, ipErr := exec.Command("ip", "-n", pod.Name(), "rule", "del", "pref", "30100").CombinedOutput(); ipErr != nil {
		t.Fatalf("%s", raw)
	}
	if _, err = journalOf(dir); err == nil || !strings.Contains(err.Error(), `rule "30100: to 10.244.0.0/16 lookup 30000" is missing`) {
		t.Errorf("a removed rule is not named: %v", err)
	}
	if err = pod.Replace(); err != nil {
		t.Fatal(err)
	}
	if text, err = journalOf(dir); err != nil || !strings.Contains(text, "The namespace is gone") {
		t.Errorf("error %v, text %s", err, text)
	}
}

// journalOf runs the command, and returns its output with single blanks.
func journalOf(dir string) (string, error) {
	var out bytes.Buffer
	cmd := command()
	cmd.SetArgs([]string{"journal", "--state-dir", filepath.Join(dir, "state"), "abc"})
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	err := cmd.Execute()
	var lines []string
	for line := range strings.Lines(out.String()) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	return strings.Join(lines, "\n"), err
}
