// Command guestrun runs a command in the SR-IOV guest:
//
//	go run ./internal/guestrun [-memory 2G] [-timeout 20m] [-share DIR] COMMAND ARGUMENT...
//
// MULTIPLEXER_GUEST_DIR is what tools/guest.sh prints. Variables of the
// environment that begin with MULTIPLEXER_ are the command's too.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/multiplexer-cni/multiplexer/internal/guest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	status, err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "guestrun:", err)
		status = 1
	}
	os.Exit(status)
}

func run(ctx context.Context) (int, error) {
	o := guest.Options{Dir: os.Getenv("MULTIPLEXER_GUEST_DIR"), Stdout: os.Stdout, Stderr: os.Stderr}
	flag.StringVar(&o.Memory, "memory", "2G", "the guest's memory")
	flag.StringVar(&o.Share, "share", "", "a directory that the guest can write to")
	flag.DurationVar(&o.Timeout, "timeout", 20*time.Minute, "the guest is ended after that")
	flag.Parse()
	if o.Command = flag.Args(); len(o.Command) == 0 || o.Dir == "" {
		return 0, fmt.Errorf("want a command, and MULTIPLEXER_GUEST_DIR=$(tools/guest.sh)")
	}
	var err error
	if o.WorkDir, err = os.Getwd(); err != nil {
		return 0, err
	}
	o.Env = guest.Environ()
	return guest.Run(ctx, o)
}
