// Package guest boots a virtual machine with real SR-IOV: QEMU emulates
// Intel's 82576 (igb), and Debian's kernel has the drivers. The guest sees
// this machine's files, read-only below a throw-away layer, and runs one
// command.
package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Options of one boot.
type Options struct {
	Dir     string   // what tools/guest.sh prints
	Command []string // what the guest runs, as root
	Env     []string // its environment, "K=V", besides PATH, HOME and MULTIPLEXER_GUEST
	WorkDir string   // where it runs; the guest has this machine's directories
	Share   string   // a directory that the guest can write to; "" = a temporary one
	Memory  string   // "2G" if empty
	CPUs    int      // 2 if 0
	Kernel  []string // more parameters of the kernel
	Number  int      // tells guests of one host apart: their MACs and the host's network
	Host    bool     // a NIC to this machine's loopback, see [Options.HostAddress]
	Wire    *Wire    // joins the first physical network to another guest's
	Stdout  io.Writer
	Stderr  io.Writer // gets what is to be said of the guest itself
	Timeout time.Duration

	hand string // the socket of this machine's side of the hand; "" = there is none
}

// Wire joins two guests: a UNIX socket, at which one of them listens. The other
// one tries until it is there.
type Wire struct {
	Socket string
	Listen bool
}

// PFs of every guest, in order. Each is on a physical network of its own.
func PFs() []string { return []string{"0000:01:00.0", "0000:02:00.0"} }

// ErrNoStatus says that the guest ended without the command's exit status.
var ErrNoStatus = errors.New("the guest gave no status")

// Inside reports whether this process runs in a guest.
func Inside() bool { return os.Getenv("MULTIPLEXER_GUEST") != "" }

// Environ is what the environment says of this project's programs and caches.
func Environ() []string {
	return slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return !strings.HasPrefix(kv, "MULTIPLEXER_") && !strings.HasPrefix(kv, "MULTIPLEXERD_")
	})
}

// Run boots a guest, runs the command, and returns its exit status. A boot
// that does not come as far as the command is repeated once, and said.
func Run(ctx context.Context, o Options) (status int, err error) {
	status, started, err := o.boot(ctx)
	if errors.Is(err, ErrNoStatus) && !started && ctx.Err() == nil {
		fmt.Fprintf(o.Stderr, "guest: boot 1 of 2 came to nothing, and is repeated: %v\n", err)
		status, _, err = o.boot(ctx)
	}
	return status, err
}

// boot is one try. started says whether the command was run.
func (o Options) boot(ctx context.Context) (status int, started bool, err error) {
	if o.Timeout != 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.Timeout)
		defer cancel()
	}
	temp, err := os.MkdirTemp("", "guest")
	if err != nil {
		return 0, false, err
	}
	defer os.RemoveAll(temp)
	if o.Share == "" {
		o.Share = temp
	}
	if err = o.writeCommand(); err != nil {
		return 0, false, err
	}
	defer os.Remove(filepath.Join(o.Share, "command"))
	q, err := o.launch(ctx, temp)
	if err != nil {
		return 0, false, err
	}
	status, err = q.status()
	return status, q.started(), err
}

// writeCommand leaves the command where the guest finds it.
func (o Options) writeCommand() error {
	var script strings.Builder
	for _, kv := range o.Env {
		fmt.Fprintf(&script, "export %s\n", quote(kv))
	}
	fmt.Fprintf(&script, "cd %s || exit 120\n", quote(o.WorkDir))
	for _, word := range o.Command {
		script.WriteString(quote(word) + " ")
	}
	script.WriteString("\n")
	if err := os.WriteFile(filepath.Join(o.Share, "command"), []byte(script.String()), 0o600); err != nil {
		return fmt.Errorf("leave the guest its command: %w", err)
	}
	return nil
}

// quote makes one word of a shell's.
func quote(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }
