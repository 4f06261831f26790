package nettest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// Node is a namespace that plays the host: plugins run in it, so the bridges
// and host ends that they make land there and not on the machine. It forwards
// IPv4 and IPv6.
//
// Only the network is its own. Files, processes and the mounted /sys are the
// machine's; /proc/sys/net is the node's for what runs in it.
type Node struct {
	*NS
}

// NewNode makes a node.
func NewNode() (*Node, error) {
	ns, err := NewNS("node-")
	if err != nil {
		return nil, err
	}
	err = ns.Do(func() error {
		for _, path := range []string{"/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"} {
			if err = os.WriteFile(path, []byte("1"), 0o644); err != nil {
				return fmt.Errorf("enable forwarding: %w", err)
			}
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, ns.Close())
	}
	return &Node{NS: ns}, nil
}

// Start starts the command in the node's network namespace. The command must
// not ask for a parent-death signal: the thread that starts it dies at once.
func (n *Node) Start(cmd *exec.Cmd) error {
	// A process inherits the namespace of the thread that forks it.
	return n.Do(cmd.Start)
}

// Run starts the command in the node and waits for it.
func (n *Node) Run(cmd *exec.Cmd) error {
	if err := n.Start(cmd); err != nil {
		return err
	}
	return cmd.Wait()
}

// Output runs a program in the node and returns what it wrote to stdout.
// When it fails, the error holds what it wrote to stderr.
func (n *Node) Output(name string, args ...string) ([]byte, error) {
	cmd := exec.Command(name, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := n.Run(cmd); err != nil {
		return stdout.Bytes(), fmt.Errorf("run %s: %w: %s", cmd, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.Bytes(), nil
}

// OwnNode returns the calling process's own network namespace as a node, for
// a machine that is a test's alone. It gets a name that stays.
func OwnNode() (*Node, error) {
	const name = "own-node"
	if err := prepareNetnsDir(); err != nil {
		return nil, err
	}
	node := &Node{NS: &NS{name: name}}
	if _, err := node.Cookie(); err == nil {
		return node, nil
	}
	f, err := os.OpenFile(node.Path(), os.O_CREATE|os.O_RDONLY, 0o444)
	if err != nil {
		return nil, err
	}
	if err = errors.Join(f.Close(), unix.Mount("/proc/thread-self/ns/net", node.Path(), "", unix.MS_BIND, "")); err != nil {
		return nil, fmt.Errorf("name the process's network namespace: %w", err)
	}
	return node, nil
}
