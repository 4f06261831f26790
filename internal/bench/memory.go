package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/containernetworking/cni/pkg/invoke"
	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/internal/benchtable"
)

// peakExec runs plugins for libcni and keeps the highest peak of their
// resident memory, without that of their own children.
//
// The rusage of an ended process would not do: the kernel counts in what the
// process was before it called exec, which is this program. So the process
// is traced, and asked for its peak at the moment when it exits.
type peakExec struct {
	invoke.DefaultExec
	highest float64 // MiB
}

// ExecPlugin must be called on a locked thread: only the thread that started
// a traced process may trace it.
func (x *peakExec) ExecPlugin(ctx context.Context, path string, stdin []byte, environ []string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, path)
	var stdout, stderr bytes.Buffer
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = environ, bytes.NewReader(stdin), &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	peak, err := peakOf(cmd.Process.Pid)
	if err != nil {
		return nil, errors.Join(err, cmd.Process.Kill(), cmd.Wait())
	}
	if err = cmd.Wait(); err != nil {
		return nil, fmt.Errorf("run %s: %w: %s%s", path, err, &stdout, &stderr)
	}
	x.highest = max(x.highest, peak)
	return stdout.Bytes(), nil
}

// peakOf lets a traced process, which has just called exec, run to its exit,
// and returns its peak in MiB.
func peakOf(pid int) (float64, error) {
	for started := false; ; started = true {
		var status unix.WaitStatus
		if _, err := unix.Wait4(pid, &status, unix.WALL, nil); errors.Is(err, unix.EINTR) {
			continue
		} else if err != nil {
			return 0, fmt.Errorf("wait for process %d: %w", pid, err)
		}
		if !status.Stopped() {
			return 0, fmt.Errorf("process %d was killed while it was measured", pid)
		}
		if status.TrapCause() == unix.PTRACE_EVENT_EXIT {
			peak, err := memoryNow(pid, "VmHWM")
			return peak, errors.Join(err, unix.PtraceDetach(pid))
		}
		signal := status.StopSignal()
		if !started {
			signal = 0 // the stop after exec
			if err := unix.PtraceSetOptions(pid, unix.PTRACE_O_TRACEEXIT|unix.PTRACE_O_EXITKILL); err != nil {
				return 0, fmt.Errorf("trace process %d: %w", pid, err)
			}
		}
		if err := unix.PtraceCont(pid, int(signal)); err != nil {
			return 0, fmt.Errorf("continue process %d: %w", pid, err)
		}
	}
}

// memoryNow returns a field of a process's status, in MiB.
func memoryNow(pid int, field string) (float64, error) {
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return 0, fmt.Errorf("read the memory of process %d: %w", pid, err)
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			kib, errValue := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
			return kib / 1024, errValue
		}
	}
	return 0, fmt.Errorf("the kernel does not tell %s of process %d", field, pid)
}

// measureMemory compares the peak of an ADD with that of the largest of the
// delegates' own.
func measureMemory(ctx context.Context, s *stand, p benchtable.Pace) ([]benchtable.Row, error) {
	const secondaries = mostNetworks
	pod, err := s.pod(0)
	if err != nil {
		return nil, err
	}
	call := func(callerFor func(int, invoke.Exec) caller) func() ([]float64, error) {
		return func() ([]float64, error) {
			x := &peakExec{}
			if _, errAdd := callerFor(secondaries, x).add(ctx, pod); errAdd != nil {
				return nil, fmt.Errorf("ADD: %w", errAdd)
			}
			if _, errDel := callerFor(secondaries, nil).del(ctx, pod); errDel != nil {
				return nil, fmt.Errorf("DEL: %w", errDel)
			}
			return []float64{x.highest}, nil
		}
	}
	p.Least = min(p.Least, 5)
	got, err := p.Pairs(ctx, call(s.oursFor), call(s.floorFor))
	if err != nil {
		return nil, err
	}
	control := &peakExec{}
	err = s.node.Do(func() error {
		_, errTrue := control.ExecPlugin(ctx, "/bin/true", nil, os.Environ())
		return errTrue
	})
	if err != nil {
		return nil, err
	}
	r := benchtable.Row{Name: fmt.Sprintf("peak memory of an ADD, %d secondary networks", secondaries), Unit: "MiB", Target: benchtable.AtMost(20), Absolute: true, Notes: []string{
		fmt.Sprintf("Memory is that of the plugin's own process; the floor is the bridge plugin. /bin/true, measured in the same way, has %.2f MiB.", control.highest),
	}}
	r.Ours, r.Floor, r.Ratio = got.Value(0)
	return []benchtable.Row{r}, nil
}
