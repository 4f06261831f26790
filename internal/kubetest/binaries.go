package kubetest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// envBinaries names the directory that holds etcd and kube-apiserver.
const envBinaries = "MULTIPLEXER_KUBE"

// BinariesDir returns the directory with etcd and kube-apiserver:
// $MULTIPLEXER_KUBE, or what tools/kube.sh builds, which takes minutes the
// first time.
func BinariesDir() (string, error) {
	if dir := os.Getenv(envBinaries); dir != "" {
		return dir, nil
	}
	script, err := findScript()
	if err != nil {
		return "", err
	}
	var stdout bytes.Buffer
	cmd := exec.Command(script, "etcd", "kube-apiserver")
	// It says on stderr what it does for so long.
	cmd.Stdout, cmd.Stderr = &stdout, os.Stderr
	if err = cmd.Run(); err != nil {
		return "", fmt.Errorf("build etcd and kube-apiserver: %s: %w", script, err)
	}
	dir := string(bytes.TrimSpace(stdout.Bytes()))
	return dir, os.Setenv(envBinaries, dir)
}

// findScript walks up from the working directory to the repository's root.
func findScript() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("get working directory: %w", err)
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		script := filepath.Join(dir, "tools", "kube.sh")
		if _, err = os.Stat(script); err == nil {
			return script, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("no tools/kube.sh in or above %s", start)
		}
	}
}
