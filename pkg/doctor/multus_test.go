package doctor

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
)

// multus records a container as Multus does, with its namespace.
func (b *bed) multus(container, netns string) {
	b.Helper()
	conf := base64.StdEncoding.EncodeToString([]byte(`{"cniVersion":"1.0.0","name":"pods","type":"bridge"}`))
	b.file("/var/lib/cni/multus/"+container, fmt.Sprintf(`[{"Name":"pods","Bytes":%q}]`, conf), 0o600)
	b.file("/var/lib/cni/multus/results/pods-"+container+"-eth0", fmt.Sprintf(
		`{"kind":"cniCacheV1","containerId":%q,"ifName":"eth0","networkName":"pods","netns":%q,"config":%q,"result":{}}`, container, netns, conf), 0o600)
}

func TestContainersOfMultus(t *testing.T) {
	b := newBed(t)
	find := func(state State, words string) {
		t.Helper()
		for _, f := range b.find("multus") {
			if f.State == state && strings.Contains(f.What, words) {
				return
			}
		}
		t.Errorf("want %s %q, got %+v", state, words, b.find("multus"))
	}
	find(NA, "no container that Multus attached")
	b.multus("lives", "/run/netns-lives")
	b.file("/run/netns-lives", "", 0o444)
	find(OK, "1 containers that Multus attached")
	b.multus("gone", "/run/netns-gone")
	find(Warn, "container gone, which Multus attached, is left over: its namespace is gone, its attachments (1) are not")
	b.file("/var/lib/cni/multus/gone", "[", 0o600)
	find(Warn, "multus/gone of Multus: want a JSON list")
	for i := range 20 {
		b.multus(fmt.Sprint("gone", i), "/run/netns-gone")
	}
	find(Warn, "16 more containers that Multus attached are like that")
	if rows := len(b.find("multus")); rows != 6 {
		t.Errorf("%d rows", rows)
	}
	b.Unseen = func(path string) bool { return path == "/var/lib/cni/multus" }
	find(NA, "cannot be seen from here")
}
