package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// patience bounds the whole demo, which takes about a second.
const patience = 60 * time.Second

func main() {
	err := run()
	var inner *exec.ExitError
	if errors.As(err, &inner) && inner.ExitCode() > 0 {
		os.Exit(inner.ExitCode()) // it has said why
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "\ndemo: FAILED: %v\n", err)
		os.Exit(1)
	}
}

func run() error {
	if os.Geteuid() != 0 {
		return errors.New("network namespaces need root; run: sudo make demo")
	}
	// Before anything is hidden: what is missing gets built now.
	bin, err := nettest.BinaryPath()
	if err != nil {
		return fmt.Errorf("find the plugin: %w; run: make build", err)
	}
	plugins, err := nettest.PluginsDir()
	if err != nil {
		return fmt.Errorf("find the reference CNI plugins: %w; run: make demo", err)
	}
	if err = exist("run: make build", bin); err != nil {
		return err
	}
	if err = exist("run: make demo", filepath.Join(plugins, "bridge"), filepath.Join(plugins, "host-local")); err != nil {
		return err
	}
	if !isPrivate() {
		return runPrivate()
	}
	if err = mountProc(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return newShow(os.Stdout, bin, plugins).run(ctx)
}

// exist reports the first file that is missing, with what to do about it.
func exist(todo string, paths ...string) error {
	for _, path := range paths {
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("%w; %s", err, todo)
		}
	}
	return nil
}
