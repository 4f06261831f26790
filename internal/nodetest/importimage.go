package nodetest

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
)

// BuildProductImage writes the image of the product, built from these sources
// with the version, which is its tag too, to a file.
func BuildProductImage(version, file string) error {
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return fmt.Errorf("find the sources: %w", err)
	}
	cmd := exec.Command("go", "run", "./internal/image", "-arch", runtime.GOARCH, "-version", version, "-o", file)
	cmd.Dir = string(bytes.TrimSpace(root))
	if out, runErr := cmd.CombinedOutput(); runErr != nil {
		return fmt.Errorf("build the product's image: %w: %s", runErr, out)
	}
	return nil
}

// ImportImage gives the node's containerd an image, from a file of the machine.
func (n *Node) ImportImage(file string) error {
	_, err := n.Output(filepath.Join(n.cluster.binaries, "ctr"), "--namespace", "k8s.io", "images", "import", file)
	return err
}
