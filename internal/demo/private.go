package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// privateRun exists in the /run of a demo alone.
const privateRun = "/run/multiplexer-demo"

// privateDirs are what the demo and the plugins write to, besides /run.
func privateDirs() []string { return []string{"/etc/cni", "/var/lib/cni"} }

// isPrivate reports whether this process has a file tree of its own already.
func isPrivate() bool {
	_, err := os.Stat(privateRun)
	return err == nil
}

// runPrivate runs this program anew in a mount namespace where /run (with
// /run/netns), /etc/cni and /var/lib/cni are empty and its own, and in a
// process namespace, so that no other process that uses such paths is taken
// for a leftover. The machine sees none of it. However this process ends, the
// other one is killed, with all that it started; the mounts end with them, and
// so do the network namespaces that only they hold.
func runPrivate() error {
	// The new process inherits the thread's mount namespace, and is killed
	// when the thread ends.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("make a mount namespace: %w; run the demo as root, in a container only when that is privileged", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("separate the mounts from the machine's: %w", err)
	}
	if err := mountEmpty("/run"); err != nil {
		return err
	}
	for _, dir := range privateDirs() {
		if err := hide(dir); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(privateRun, 0o755); err != nil {
		return err
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWPID, Pdeathsig: unix.SIGKILL}
	return cmd.Run()
}

// mountProc makes /proc show the processes of the demo alone.
func mountProc() error {
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w; run the demo in a container only when that is privileged", err)
	}
	return nil
}

// hide puts an empty directory in the place of dir. A dir that the machine
// lacks is made in an overlay over the directory above it, not on the machine.
func hide(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return mountEmpty(dir)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	above := filepath.Dir(dir)
	layers := filepath.Join(privateRun, above)
	upper, work := filepath.Join(layers, "upper"), filepath.Join(layers, "work")
	if err := errors.Join(os.MkdirAll(upper, 0o755), os.MkdirAll(work, 0o755)); err != nil {
		return err
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", above, upper, work)
	if err := unix.Mount("overlay", above, "overlay", 0, options); err != nil {
		return fmt.Errorf("mount an overlay over %s: %w; where the kernel has none, make %s yourself, the demo leaves it empty", above, err, dir)
	}
	return os.MkdirAll(dir, 0o755)
}

func mountEmpty(dir string) error {
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return fmt.Errorf("mount a tmpfs over %s: %w", dir, err)
	}
	return nil
}
