package nodetest

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// writeRuntimeSpec writes what every container begins with: containerd's own,
// and a hook that shows the container the node's boot ID. A container gets a
// /proc of its own, and would see the machine's.
func (n *Node) writeRuntimeSpec() error {
	out, err := exec.Command(filepath.Join(n.cluster.binaries, "ctr"), "oci", "spec").Output()
	if err != nil {
		return fmt.Errorf("ask for containerd's OCI spec: %w", err)
	}
	var spec map[string]any
	if err = json.Unmarshal(out, &spec); err != nil {
		return fmt.Errorf("read containerd's OCI spec: %w", err)
	}
	// It runs in the container's mounts before the node's are left, in what is
	// to be the root directory.
	spec["hooks"] = map[string]any{"createContainer": []any{map[string]any{
		"path": "/bin/mount", "args": []string{"mount", "--bind", n.disk("boot_id"), "proc/sys/kernel/random/boot_id"},
	}}}
	content, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	if err = os.WriteFile(n.disk("runtime-spec.json"), content, 0o644); err != nil {
		return fmt.Errorf("configure runc: %w", err)
	}
	return nil
}
