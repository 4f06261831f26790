package guest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Main is TestMain's of a package whose tests need the guest. Outside it
// builds the package's tests anew, without the race detector, which is too
// slow under emulation, and runs them in a guest with the same flags.
func Main(m *testing.M) {
	if Inside() {
		os.Exit(m.Run())
	}
	status, err := runTests(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err)
		status = 1
	}
	os.Exit(status)
}

func runTests(ctx context.Context) (int, error) {
	dir := os.Getenv("MULTIPLEXER_GUEST_DIR")
	if dir == "" {
		return 0, errors.New("these tests run in a guest: run `make test-sriov`, or set MULTIPLEXER_GUEST_DIR to what tools/guest.sh prints")
	}
	temp, err := os.MkdirTemp("", "guest-tests")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(temp)
	program := filepath.Join(temp, "tests")
	build := exec.CommandContext(ctx, "go", "test", "-c", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, buildErr := build.CombinedOutput(); buildErr != nil {
		return 0, fmt.Errorf("build the tests: %w\n%s", buildErr, out)
	}
	o := Options{Dir: dir, Command: []string{program}, Share: temp, Stdout: os.Stdout, Stderr: os.Stderr, Timeout: 45*time.Minute + 40*time.Second}
	for _, arg := range os.Args[1:] {
		// Coverage and the log of opened files are the outer test's business.
		if !strings.HasPrefix(arg, "-test.testlogfile") && !strings.HasPrefix(arg, "-test.gocoverdir") {
			o.Command = append(o.Command, arg)
		}
	}
	o.Env = Environ()
	if o.WorkDir, err = os.Getwd(); err != nil {
		return 0, err
	}
	return Run(ctx, o)
}
