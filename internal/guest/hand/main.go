// Command hand runs in a guest and does what it is asked through the virtio
// port of its name: see guest.Hand. It ends when the host closes the port.
package main

import (
	"errors"
	"fmt"
	"net/rpc"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, "hand:", err)
		os.Exit(1)
	}
}

func serve() error {
	path, err := port("hand")
	if err != nil {
		return err
	}
	conn, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	server := rpc.NewServer()
	if err = server.RegisterName("Hand", newHand()); err != nil {
		return err
	}
	server.ServeConn(conn)
	return nil
}

// port finds the device of the virtio port with that name.
func port(name string) (string, error) {
	ports, err := filepath.Glob("/sys/class/virtio-ports/*")
	if err != nil {
		return "", err
	}
	for _, p := range ports {
		if content, readErr := os.ReadFile(filepath.Join(p, "name")); readErr == nil && strings.TrimSpace(string(content)) == name {
			return filepath.Join("/dev", filepath.Base(p)), nil
		}
	}
	return "", errors.New("no virtio port has the name " + name)
}
