package lockfile

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// most bounds a file that is read, in bytes: many times what a node's needs.
const most = 16 << 20

// ErrIrregular says that what bears the name is no regular file.
const ErrIrregular = irregular("is no regular file")

type irregular string

func (e irregular) Error() string { return string(e) }

// Irregular reports whether a file could not be opened or read because it is no
// regular one: it is a directory, a link, a FIFO or the like.
func Irregular(err error) bool {
	return errors.Is(err, ErrIrregular) || errors.Is(err, unix.EISDIR) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO)
}

// Read returns what a regular file holds, and nothing that could block or never
// end: it follows no link and waits for no FIFO.
func Read(path string) ([]byte, error) {
	f, err := openRegular(path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && len(raw) > most {
		err = fmt.Errorf("%s has more than %d bytes", path, most)
	}
	return raw, err
}

// openRegular opens a regular file, and nothing else. A new one is root's alone.
func openRegular(path string, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s %w", path, ErrIrregular)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
