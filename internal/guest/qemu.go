package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// qemu is a virtual machine that was started. It ends with its context, and
// with this process in whatever way that ends.
type qemu struct {
	cmd     *exec.Cmd
	console string        // the file
	ended   chan struct{} // closed when it has
	err     error         // of the run, when it has ended
}

// launch starts QEMU; its console's file is in dir.
func (o Options) launch(ctx context.Context, dir string) (*qemu, error) {
	q := &qemu{console: filepath.Join(dir, "console"), ended: make(chan struct{})}
	q.cmd = exec.CommandContext(ctx, filepath.Join(o.Dir, "qemu"), o.arguments(q.console)...)
	// By a pipe: QEMU opens its output anew, and a file would have two ends then.
	q.cmd.Stdout, q.cmd.Stderr = struct{ io.Writer }{o.Stdout}, o.Stderr
	q.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go q.run(started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("run QEMU: %w", err)
	}
	go q.bound()
	return q, nil
}

// bootPatience is how long a guest may take to its command: 5 s, and on a busy
// machine a minute.
const bootPatience = 4 * time.Minute

// bound ends a guest whose kernel hangs on its way to the command.
func (q *qemu) bound() {
	select {
	case <-q.ended:
	case <-time.After(bootPatience):
		if !q.started() {
			_ = q.cmd.Process.Kill() // it may just have ended
		}
	}
}

// run keeps its thread as long as QEMU lives: the kernel sends the parent-death
// signal when the thread that forked ends.
func (q *qemu) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := q.cmd.Start()
	started <- err
	if err == nil {
		q.err = q.cmd.Wait()
		close(q.ended)
	}
}

// started says whether the guest came as far as its command.
func (q *qemu) started() bool { return strings.Contains(q.log(), "guest: ready") }

func (q *qemu) log() string {
	log, err := os.ReadFile(q.console)
	if err != nil {
		return err.Error()
	}
	return string(log)
}

// status waits for the guest's end and returns the command's status.
func (q *qemu) status() (int, error) {
	<-q.ended
	var exit *exec.ExitError
	if q.err != nil && !errors.As(q.err, &exit) {
		return 0, fmt.Errorf("run QEMU: %w", q.err)
	}
	// The debug exit device: the status shifted left, and bit 0 set.
	log := q.log()
	if code := q.cmd.ProcessState.ExitCode(); code > 0 && code&1 == 1 && strings.Contains(log, "guest: status") {
		return code >> 1, nil
	}
	return 0, fmt.Errorf("%w (%s); the end of its console:\n%s", ErrNoStatus, q.cmd.ProcessState, tail(log, 6000))
}

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
	kernel := []string{
		// no_timer_check: on a loaded machine that check fails now and then.
		// hung_task_panic: a kernel that stands still says where, and ends.
		"console=ttyS0", "quiet", "panic=-1", "hung_task_panic=1", "mitigations=off", "no_timer_check",
		"intel_iommu=on", "iommu=pt", "net.ifnames=0", "share=" + o.Share,
	}
	args := []string{
		"-M", "q35,kernel-irqchip=split", "-accel", "tcg,thread=multi", "-cpu", "Nehalem",
		"-smp", strconv.Itoa(cpus), "-m", memory, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-kernel", filepath.Join(o.Dir, "vmlinux"), "-initrd", filepath.Join(o.Dir, "initrd"),
		"-append", strings.Join(append(kernel, o.Kernel...), " "),
		"-device", "intel-iommu,intremap=on,caching-mode=on",
		"-device", "isa-debug-exit,iobase=0x501,iosize=2", "-device", "virtio-rng-pci",
		"-serial", "file:" + console,
		"-chardev", "file,id=output,append=on,path=/dev/fd/1",
		"-device", "virtio-serial-pci", "-device", "virtserialport,chardev=output,name=output",
		"-fsdev", "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap",
		"-device", "virtio-9p-pci,fsdev=root,mount_tag=root",
		"-fsdev", "local,id=share,security_model=none,multidevs=remap,path=" + o.Share,
		"-device", "virtio-9p-pci,fsdev=share,mount_tag=share",
	}
	if o.hand != "" {
		args = append(args, "-chardev", "socket,id=hand,path="+o.hand, "-device", "virtserialport,chardev=hand,name="+handPort)
	}
	return append(args, o.networkArguments()...)
}

// networkArguments are the cards, each on a hub of its own, and what the hubs
// and the guest are joined to.
func (o Options) networkArguments() []string {
	var args []string
	for i := range PFs() {
		n := strconv.Itoa(i + 1)
		args = append(args,
			"-netdev", "hubport,id=n"+n+",hubid="+n, "-device", "pcie-root-port,id=rp"+n+",chassis="+n+",slot="+n,
			"-device", fmt.Sprintf("igb,bus=rp%s,netdev=n%s,mac=52:54:00:%02x:0%s:00", n, n, o.Number, n))
	}
	if o.Wire != nil {
		side := "server=off,reconnect-ms=200"
		if o.Wire.Listen {
			side = "server=on"
		}
		args = append(args,
			"-netdev", "stream,id=wire,addr.type=unix,addr.path="+o.Wire.Socket+","+side,
			"-netdev", "hubport,id=joint,hubid=1,netdev=wire")
	}
	if o.Host {
		args = append(args,
			"-netdev", fmt.Sprintf("user,id=host,ipv6=off,net=%s,host=%s", o.subnet(), o.HostAddress()),
			"-device", "virtio-net-pci,netdev=host,mac="+o.HostMAC())
	}
	return args
}

func (o Options) subnet() string { return fmt.Sprintf("10.0.%d.0/24", o.Number+2) }

// Address is the guest's on the host's network, a /24. The guest does not have
// it of itself: there is nobody to give it.
func (o Options) Address() string { return fmt.Sprintf("10.0.%d.15", o.Number+2) }

// HostAddress is what the guest reaches 127.0.0.1 of this machine by.
func (o Options) HostAddress() string { return fmt.Sprintf("10.0.%d.2", o.Number+2) }

// HostMAC is that of the guest's NIC on the host's network.
func (o Options) HostMAC() string { return fmt.Sprintf("52:54:00:%02x:00:15", o.Number) }

func tail(s string, most int) string {
	if len(s) > most {
		s = "..." + s[len(s)-most:]
	}
	return strings.TrimSpace(s)
}
