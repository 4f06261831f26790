package kubetest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// envBinaries names a directory with programs that tools/kube.sh built.
const envBinaries = "MULTIPLEXER_KUBE"

// BinariesDir returns a directory with etcd and kube-apiserver, see [Binaries].
func BinariesDir() (string, error) { return Binaries("etcd", "kube-apiserver") }

// Binaries returns a directory with the programs: $MULTIPLEXER_KUBE, or what
// tools/kube.sh builds when one is missing there, which takes minutes the
// first time.
func Binaries(names ...string) (string, error) {
	if dir := os.Getenv(envBinaries); dir != "" && haveAll(dir, names) {
		return dir, nil
	}
	script, err := findScript()
	if err != nil {
		return "", err
	}
	var stdout bytes.Buffer
	cmd := exec.Command(script, names...)
	// It says on stderr what it does for so long.
	cmd.Stdout, cmd.Stderr = &stdout, os.Stderr
	if err = cmd.Run(); err != nil {
		return "", fmt.Errorf("build %s: %s: %w", strings.Join(names, ", "), script, err)
	}
	dir := string(bytes.TrimSpace(stdout.Bytes()))
	return dir, os.Setenv(envBinaries, dir)
}

func haveAll(dir string, names []string) bool {
	for _, name := range names {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return false
		}
	}
	return true
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
