package nodetest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// envHelm names helm; without it tools/helm.sh builds one.
const envHelm = "MULTIPLEXER_HELM"

// Helm returns helm. The working directory is below internal/.
func Helm() (string, error) {
	if path := os.Getenv(envHelm); path != "" {
		return path, nil
	}
	script, err := filepath.Abs("../../tools/helm.sh")
	if err != nil {
		return "", err
	}
	cmd := exec.Command(script)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("build helm: %w", err)
	}
	return string(bytes.TrimSpace(out)), nil
}
