package deploytest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/multiplexer-cni/multiplexer/internal/kubetest"
)

// chart and deploy are where this package finds what it tests.
const (
	chart  = "../../deploy/chart"
	deploy = "../../deploy"
)

// envHelm names helm; without it tools/helm.sh builds one.
const envHelm = "MULTIPLEXER_HELM"

// cluster and helm are every test's.
var (
	cluster *kubetest.Cluster
	helm    string
)

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	if helm, err = findHelm(); err != nil {
		return 1, err
	}
	if cluster, err = kubetest.New(); err != nil {
		return 1, err
	}
	defer func() {
		if err = errors.Join(err, cluster.Close()); err == nil {
			err = goleak.Find()
		}
	}()
	return m.Run(), nil
}

func findHelm() (string, error) {
	if path := os.Getenv(envHelm); path != "" {
		return path, nil
	}
	cmd := exec.Command("../../tools/helm.sh")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("build helm: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}
