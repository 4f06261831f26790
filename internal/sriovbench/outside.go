package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/multiplexer-cni/multiplexer/internal/guest"
)

const (
	module = "github.com/multiplexer-cni/multiplexer"
	// envPlugin tells the program in the guest where its executable of sriov is.
	envPlugin = "MULTIPLEXER_SRIOV_EXECUTABLE"
)

// outside builds this program and the plugin's executable, and runs the
// former in a guest with the same arguments.
func outside(ctx context.Context, args []string) (status int, err error) {
	if _, err = parse(args); errors.Is(err, flag.ErrHelp) {
		return 0, nil
	} else if err != nil {
		return 0, err
	}
	dir := os.Getenv("MULTIPLEXER_GUEST_DIR")
	if dir == "" {
		return 0, errors.New("run `make bench`, or set MULTIPLEXER_GUEST_DIR to what tools/guest.sh prints")
	}
	share, err := os.MkdirTemp("", "sriovbench-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(share)) }()
	const self = module + "/internal/sriovbench"
	for _, pkg := range []string{self, self + "/sriov"} {
		if err = build(ctx, pkg, share); err != nil {
			return 0, err
		}
	}
	o := guest.Options{
		Dir: dir, Share: share, WorkDir: share, Timeout: 10 * time.Minute, Stdout: os.Stdout, Stderr: os.Stderr,
		Command: append([]string{filepath.Join(share, "sriovbench")}, args...),
		Env:     append(guest.Environ(), envPlugin+"="+filepath.Join(share, "sriov")),
	}
	return guest.Run(ctx, o)
}

// build builds a command as `make build` does.
func build(ctx context.Context, pkg, dir string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", dir+"/", pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w: %s", pkg, err, out)
	}
	return nil
}
