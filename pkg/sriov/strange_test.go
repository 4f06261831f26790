package sriov

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What is no file is not waited for. The agent, whose files they are, puts its
// own in their place.
func TestStrangeFiles(t *testing.T) {
	c := NewClaims(t.TempDir()+"/state", "")
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	const pci = "0000:01:10.0"
	for _, path := range []string{c.poolsPath(), c.offersPath(), c.path(pci)} {
		if err := unix.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	in := func(what string, call func() error, fails bool) {
		done := make(chan error, 1)
		go func() { done <- call() }()
		select {
		case err := <-done:
			if (err != nil) != fails {
				t.Errorf("%s: %v", what, err)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("%s waits", what)
		}
	}
	in("reading the pools", func() error { _, err := c.Advertised(); return err }, true)
	in("reading the offers", func() error { _, err := c.Offers(); return err }, true)
	in("reading a claim", func() error { _, err := c.Get(pci); return err }, true)
	in("reading all claims", func() error { _, err := c.All(); return err }, true)
	in("writing the pools", func() error { return c.Advertise(map[string][]string{"x/y": {pci}}) }, false)
	in("writing the offers", func() error { return c.SetOffers([]Offer{{PCI: pci, PF: "0000:01:00.0", Resource: "x/y"}}) }, false)
	in("reading the pools again", func() error { _, err := c.Advertised(); return err }, false)
}
