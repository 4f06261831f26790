package provision

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/lockfile"
)

// What is no file is not waited for.
func TestStrangeFiles(t *testing.T) {
	p := &Provisioner{Options: Options{StateDir: t.TempDir()}}
	const pci = "0000:01:00.0"
	if err := os.Mkdir(p.recordDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	for path, read := range map[string]func() error{
		statusPath(p.StateDir): func() error { _, err := ReadStatus(p.StateDir); return err },
		p.recordPath(pci):      func() error { _, err := p.record(pci); return err },
	} {
		if err := unix.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- read() }()
		select {
		case err := <-done:
			if !lockfile.Irregular(err) {
				t.Errorf("%s: %v", filepath.Base(path), err)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("the read of %s waits", filepath.Base(path))
		}
	}
}
