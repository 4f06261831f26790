package multus

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// RuntimeResults is where the runtime's own libcni records its ADDs, that of
// Multus itself among them. containerd and CRI-O leave it at libcni's default.
const RuntimeResults = "/var/lib/cni/results"

// OuterRecords returns the runtime's records in dir of the ADD that called
// Multus for a container's interface. The runtime removes such a record at the
// DEL under the same network's name, and never once another conf is the first.
// A file that does not say all this of itself, or that others than root may
// write to, is not among them.
func OuterRecords(dir, container, ifname string) (paths []string) {
	if network.ValidateContainerID(container) != nil {
		return nil
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil // nothing is lost: it is a record that nobody reads
	}
	for _, file := range files {
		if !strings.HasSuffix(file.Name(), "-"+container+"-"+ifname) {
			continue
		}
		path := filepath.Join(dir, file.Name())
		c, readErr := readResult(path)
		if readErr != nil || c.ContainerID != container || c.IfName != ifname {
			continue
		}
		list, parseErr := network.ParseList(path, c.NetworkName, c.Config)
		if parseErr == nil && slices.ContainsFunc(list.Types(), isMultus) {
			paths = append(paths, path)
		}
	}
	return paths
}

func isMultus(plugin string) bool { return plugin == "multus" || plugin == "multus-shim" }
