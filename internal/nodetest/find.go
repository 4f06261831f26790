package nodetest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// Find returns the processes of the node that have the name, as the kernel
// shows it, those in pods included. The numbers are this machine's.
func (n *Node) Find(name string) ([]int, error) {
	if n.space == nil {
		return nil, nil
	}
	own, err := inode(fmt.Sprintf("/proc/%d/ns/pid", n.space.pid()))
	if err != nil {
		return nil, err
	}
	paths, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, path := range paths {
		comm, readErr := os.ReadFile(path)
		if readErr != nil || string(bytes.TrimSpace(comm)) != name {
			continue // another one, or gone
		}
		dir := filepath.Dir(path)
		if !within(filepath.Join(dir, "ns", "pid"), own) {
			continue
		}
		pid, convErr := strconv.Atoi(filepath.Base(dir))
		if convErr != nil {
			return nil, convErr
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

func inode(path string) (uint64, error) {
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		return 0, fmt.Errorf("look at %s: %w", path, err)
	}
	return stat.Ino, nil
}

// within reports whether a PID namespace is the one that is asked for or one
// below it. The namespace of a process that has ended is in none.
func within(path string, want uint64) bool {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	for err == nil {
		var stat unix.Stat_t
		if err = unix.Fstat(fd, &stat); err == nil && stat.Ino == want {
			_ = unix.Close(fd)
			return true
		}
		child := fd
		if err == nil {
			fd, err = unix.IoctlRetInt(child, unix.NS_GET_PARENT)
		}
		_ = unix.Close(child)
	}
	return false
}

// Signal sends a signal to the processes of the node that have the name, and
// returns to which. One that ended meanwhile is none of them.
func (n *Node) Signal(name string, s unix.Signal) ([]int, error) {
	found, err := n.Find(name)
	if err != nil {
		return nil, err
	}
	var sent []int
	for _, pid := range found {
		if err = unix.Kill(pid, s); errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			return sent, fmt.Errorf("signal %s (%d) of %s: %w", name, pid, n.Name, err)
		}
		sent = append(sent, pid)
	}
	return sent, nil
}
