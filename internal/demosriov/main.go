// Command demosriov shows pods with real VFs: `make demo-sriov`. It boots a
// virtual machine with two SR-IOV cards, and runs itself there.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/multiplexer-cni/multiplexer/internal/demosriov/show"
	"github.com/multiplexer-cni/multiplexer/internal/guest"
	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// patience bounds the whole demo, which takes less than a minute.
const patience = 5 * time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	status, err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "\ndemo-sriov: FAILED: %v\n", err)
		status = 1
	}
	os.Exit(status)
}

func run(ctx context.Context) (int, error) {
	if !guest.Inside() {
		return boot(ctx)
	}
	o := show.Options{Root: "."}
	var err error
	if o.Bin, err = nettest.BinaryPath(); err != nil {
		return 0, err
	}
	if o.Agent, err = nettest.AgentPath(); err != nil {
		return 0, err
	}
	if o.Plugins, err = nettest.PluginsDir(); err != nil {
		return 0, err
	}
	return 0, show.Run(ctx, os.Stdout, o)
}

// boot runs this program anew in a guest, which sees this machine's files.
func boot(ctx context.Context) (int, error) {
	o := guest.Options{Dir: os.Getenv("MULTIPLEXER_GUEST_DIR"), Stdout: os.Stdout, Timeout: patience}
	for _, name := range []string{"MULTIPLEXER_GUEST_DIR", "MULTIPLEXER_BIN", "MULTIPLEXERD_BIN", "MULTIPLEXER_CNI_PLUGINS"} {
		if os.Getenv(name) == "" {
			return 0, errors.New(name + " is not set; run: make demo-sriov")
		}
	}
	program, err := os.Executable()
	if err != nil {
		return 0, err
	}
	o.Command = []string{program}
	if o.WorkDir, err = os.Getwd(); err != nil {
		return 0, err
	}
	o.Env = guest.Environ()
	fmt.Println("Booting a virtual machine with two SR-IOV cards (QEMU emulates Intel's 82576); it takes about 10 s.")
	// QEMU has its warnings too, which matter only when something failed.
	var said bytes.Buffer
	o.Stderr = &said
	status, err := guest.Run(ctx, o)
	if err != nil || status != 0 {
		_, _ = os.Stderr.Write(said.Bytes())
	}
	return status, err
}
