package journal

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/lockfile"
)

// What is no file is not waited for, and its words are about it, not about
// space or rights.
func TestStrangeFiles(t *testing.T) {
	for name, put := range map[string]func(path string) error{
		"directory": func(path string) error { return os.Mkdir(path, 0o700) },
		"link":      func(path string) error { return os.Symlink("/etc/passwd", path) },
		"FIFO":      func(path string) error { return unix.Mkfifo(path, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			store := &Store{Dir: t.TempDir(), Now: time.Now}
			for _, dir := range []string{journalDir, releaseDir} {
				must(t, os.Mkdir(filepath.Join(store.Dir, dir), 0o700))
				path := filepath.Join(store.Dir, dir, "c1")
				must(t, put(path))
				if name == "FIFO" { // somebody has it open, and writes nothing
					silent, err := os.OpenFile(path, os.O_RDWR, 0)
					must(t, err)
					defer silent.Close()
				}
			}
			for verb, do := range map[string]func() error{
				"Read":   func() error { _, err := store.Read("c1"); return err },
				"Peek":   func() error { _, err := store.Peek("c1"); return err },
				"Open":   func() error { _, err := store.Open(t.Context(), "c1"); return err },
				"Create": func() error { _, err := store.Create(t.Context(), "c1"); return err },
				"marked": func() error { _, err := store.NetworksMarked("c1"); return err },
			} {
				done := make(chan error, 1)
				go func() { done <- do() }()
				select {
				case err := <-done:
					if !lockfile.Irregular(err) || !strings.Contains(err.Error(), "remove it") || strings.Contains(err.Error(), "free space") || !strings.Contains(err.Error(), "/c1") {
						t.Errorf("%s: %v", verb, err)
					}
				case <-time.After(10 * time.Second):
					t.Errorf("%s waits", verb)
				}
			}
			if _, err := store.Read("c2"); !errors.Is(err, ErrAbsent) {
				t.Error(err)
			}
		})
	}
}
