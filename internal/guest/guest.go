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
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
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
	Stdout  io.Writer
	Stderr  io.Writer // gets what is to be said of the guest itself
	Timeout time.Duration
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
	console := filepath.Join(temp, "console")
	qemu := exec.CommandContext(ctx, filepath.Join(o.Dir, "qemu"), o.arguments(console)...)
	// By a pipe: QEMU opens its output anew, and a file would have two ends then.
	qemu.Stdout, qemu.Stderr = struct{ io.Writer }{o.Stdout}, o.Stderr
	runErr := qemu.Run()
	var exit *exec.ExitError
	if runErr != nil && !errors.As(runErr, &exit) {
		return 0, false, fmt.Errorf("run QEMU: %w", runErr)
	}
	log, err := os.ReadFile(console)
	if err != nil {
		return 0, false, fmt.Errorf("%w: QEMU ended before it began (%w)", ErrNoStatus, runErr)
	}
	started = strings.Contains(string(log), "guest: ready")
	// The debug exit device: the status shifted left, and bit 0 set.
	if code := qemu.ProcessState.ExitCode(); code > 0 && code&1 == 1 && strings.Contains(string(log), "guest: status") {
		return code >> 1, started, nil
	}
	return 0, started, fmt.Errorf("%w (%s); the end of its console:\n%s", ErrNoStatus, qemu.ProcessState, tail(string(log), 2000))
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

// arguments are QEMU's: two igb cards behind ports of their own, an IOMMU for
// vfio, this machine's root and the share by 9p, the command's output by a
// virtio port, which is exact where a serial line is not.
func (o Options) arguments(console string) []string {
	memory, cpus := o.Memory, o.CPUs
	if memory == "" {
		memory = "2G"
	}
	if cpus == 0 {
		cpus = 2
	}
	args := []string{
		"-M", "q35,kernel-irqchip=split", "-accel", "tcg,thread=multi", "-cpu", "Nehalem",
		"-smp", strconv.Itoa(cpus), "-m", memory, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-kernel", filepath.Join(o.Dir, "vmlinux"), "-initrd", filepath.Join(o.Dir, "initrd"),
		// no_timer_check: on a loaded machine that check fails now and then.
		"-append", "console=ttyS0 quiet panic=-1 mitigations=off no_timer_check intel_iommu=on iommu=pt net.ifnames=0 share=" + o.Share,
		"-device", "intel-iommu,intremap=on,caching-mode=on",
		"-device", "isa-debug-exit,iobase=0x501,iosize=2", "-device", "virtio-rng-pci",
		"-serial", "file:" + console,
		"-chardev", "file,id=output,append=on,path=/dev/fd/1", "-device", "virtio-serial-pci", "-device", "virtserialport,chardev=output",
		"-fsdev", "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap",
		"-device", "virtio-9p-pci,fsdev=root,mount_tag=root",
		"-fsdev", "local,id=share,security_model=none,multidevs=remap,path=" + o.Share,
		"-device", "virtio-9p-pci,fsdev=share,mount_tag=share",
	}
	for i := range PFs() {
		n := strconv.Itoa(i + 1)
		args = append(args,
			"-netdev", "hubport,id=n"+n+",hubid="+n, "-device", "pcie-root-port,id=rp"+n+",chassis="+n+",slot="+n,
			"-device", "igb,bus=rp"+n+",netdev=n"+n+",mac=52:54:00:00:0"+n+":00")
	}
	return args
}

func tail(s string, most int) string {
	if len(s) > most {
		s = "..." + s[len(s)-most:]
	}
	return strings.TrimSpace(s)
}
