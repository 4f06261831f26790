package routetest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// envShape names the shape plugin's executable; a test process that this one
// starts does not build it again.
const envShape = "MULTIPLEXER_ROUTETEST_SHAPE"

func shapePlugin() string { return os.Getenv(envShape) }

// TestMain builds what the tests run, before they run side by side.
func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	tmp, err := os.MkdirTemp("", "routetest-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	if err = build(tmp); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

func build(dir string) error {
	if shapePlugin() == "" {
		bin := filepath.Join(dir, "shape")
		cmd := exec.Command("go", "build", "-o", bin, "./shape")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build shape: %w: %s", err, out)
		}
		if err := os.Setenv(envShape, bin); err != nil {
			return err
		}
	}
	if _, err := nettest.BinaryPath(); err != nil {
		return err
	}
	_, err := nettest.PluginsDir()
	return err
}
