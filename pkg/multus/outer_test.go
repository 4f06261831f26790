package multus

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// Only what is Multus's own record of this very container and interface is
// taken for it: whatever is named is removed.
func TestOuterRecords(t *testing.T) {
	dir := t.TempDir()
	record := func(name, network, container, ifname, plugin string) string {
		conf, err := json.Marshal(map[string]any{"cniVersion": "0.3.1", "name": network, "plugins": []any{map[string]string{"type": plugin}}})
		must(t, err)
		raw, err := json.Marshal(map[string]any{"kind": "cniCacheV1", "containerId": container, "ifName": ifname, "networkName": network, "config": conf})
		must(t, err)
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, raw, 0o600))
		return path
	}
	thin := record("multus-cni-network-c1-eth0", "multus-cni-network", "c1", "eth0", "multus")
	thick := record("m-c1-eth0", "m", "c1", "eth0", "multus-shim")

	record("cluster-c1-eth0", "cluster", "c1", "eth0", "multiplexer")
	record("m-c1-eth1", "m", "c1", "eth1", "multus")
	record("m-c2-eth0", "m", "c2", "eth0", "multus")
	record("m-a-c1-eth0", "m", "a-c1", "eth0", "multus") // its container's ID ends as ours
	record("x-c1-eth0", "m", "c1", "eth0", "multus")     // not by its own name
	must(t, os.Chmod(record("n-c1-eth0", "n", "c1", "eth0", "multus"), 0o622))
	must(t, os.Symlink(thin, filepath.Join(dir, "l-c1-eth0")))
	must(t, os.WriteFile(filepath.Join(dir, "torn-c1-eth0"), []byte(`{"kind":`), 0o600))

	same(t, OuterRecords(dir, "c1", "eth0"), []string{thick, thin})
	same(t, OuterRecords(dir, "../c1", "eth0"), []string(nil))
	same(t, OuterRecords(filepath.Join(dir, "none"), "c1", "eth0"), []string(nil))
}
