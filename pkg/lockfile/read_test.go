package lockfile

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestRead(t *testing.T) {
	in := func(name string) string { return filepath.Join(t.TempDir(), name) }
	file, big, fifo, link, dir := in("file"), in("big"), in("fifo"), in("link"), in("dir")
	silent, err := os.OpenFile(mkfifo(t, fifo), os.O_RDWR, 0) // somebody who writes nothing
	if err = errors.Join(err, os.WriteFile(file, []byte("x"), 0o600), os.WriteFile(big, nil, 0o600), os.Truncate(big, most+1), os.Symlink(file, link), os.Mkdir(dir, 0o700)); err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	if raw, readErr := Read(file); readErr != nil || !bytes.Equal(raw, []byte("x")) {
		t.Errorf("%q, %v", raw, readErr)
	}
	if _, err = Read(in("none")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	for path, want := range map[string]bool{fifo: true, dir: true, link: true, big: false} {
		if _, err = Read(path); err == nil || Irregular(err) != want {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func mkfifo(t *testing.T, path string) string {
	t.Helper()
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
