package routetest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// ADD reads the kernel back: what somebody took away while it was set is an
// error that names it, and the pod gets nothing. A thief may come too late, so
// several pods are robbed.
func TestADDReadsBack(t *testing.T) {
	overShapes(t, func(t *testing.T, w *world) {
		const tries = 20
		plugin := onOneCPU(t, nettest.Binary(t))
		for range tries {
			p := w.newPod(t, "red")
			before := p.inside(t)
			stop := p.steal(t)
			e := p.callOf(t, plugin, "ADD").Error()
			stop()
			if e == nil {
				p.del(t)
				continue
			}
			if !strings.Contains(e.Msg, "rule") || !strings.Contains(e.Msg, "30100") {
				t.Errorf("the error does not name the rule: %s", e.Msg)
			}
			nettest.RequireSame(t, before, p.inside(t))
			return
		}
		t.Errorf("%d times a rule was gone before ADD ended, and it succeeded", tries)
	})
}

// steal takes rules for ranges away from the pod as soon as they are there:
// before the plugin, which has the thief's CPU, runs on.
func (p *pod) steal(t *testing.T) (stop func()) {
	t.Helper()
	fd := -1
	must(t, p.ns.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
		return err
	}))
	must(t, unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1 << (unix.RTNLGRP_IPV6_RULE - 1)}))
	must(t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 20_000}))
	var stopped atomic.Bool
	ended := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with its priority
		here := unix.CPUSet{}
		here.Set(theCPU(t))
		err := unix.SchedSetaffinity(0, &here)
		// Where this is refused, the thief only comes too late more often.
		_ = unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}, 0)
		for !stopped.Load() && err == nil {
			err = stealOnce(fd)
		}
		ended <- errors.Join(err, unix.Close(fd))
	}()
	return func() {
		stopped.Store(true)
		must(t, <-ended)
	}
}

// stealOnce waits for news of rules, and asks the kernel to delete what it
// tells of.
func stealOnce(fd int) error {
	buf := make([]byte, 1<<16)
	n, _, err := unix.Recvfrom(fd, buf, 0)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("hear of rules: %w", err)
	}
	messages, err := syscall.ParseNetlinkMessage(buf[:n])
	if err != nil {
		return err
	}
	for _, m := range messages {
		if m.Header.Type != unix.RTM_NEWRULE {
			continue // also that it was gone already
		}
		attributes, parseErr := nl.ParseRouteAttr(m.Data[unix.SizeofRtMsg:])
		if parseErr != nil {
			return parseErr
		}
		for _, a := range attributes {
			if a.Attr.Type != unix.FRA_PRIORITY || binary.NativeEndian.Uint32(a.Value) != 30100 {
				continue
			}
			del := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(m.Data)))
			del = binary.NativeEndian.AppendUint16(del, unix.RTM_DELRULE)
			del = binary.NativeEndian.AppendUint16(del, unix.NLM_F_REQUEST)
			del = append(del, make([]byte, 8)...) // sequence, port
			if err = unix.Sendto(fd, append(del, m.Data...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
				return fmt.Errorf("delete a rule: %w", err)
			}
		}
	}
	return nil
}

// theCPU is one that this process may use.
func theCPU(t testing.TB) int {
	var may unix.CPUSet
	must(t, unix.SchedGetaffinity(unix.Getpid(), &may))
	cpu := 0
	for !may.IsSet(cpu) {
		cpu++
	}
	return cpu
}

// onOneCPU is an executable that runs another on one CPU.
func onOneCPU(t *testing.T, bin string) string {
	t.Helper()
	script := filepath.Join(t.TempDir(), filepath.Base(bin))
	must(t, os.WriteFile(script, fmt.Appendf(nil, "#!/bin/sh\nexec taskset -c %d %s\n", theCPU(t), bin), 0o700))
	return script
}
