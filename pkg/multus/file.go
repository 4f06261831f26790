package multus

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// MaxFile bounds one file of Multus's, in bytes: many times the largest that
// a pod's networks make.
const MaxFile = 16 << 20

// readFile returns a file that root alone could have written: what is in it
// decides what root runs. It follows no link and waits for no FIFO.
func readFile(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err = unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, fmt.Errorf("stat %s: %w", path, err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return nil, fmt.Errorf("%s is no regular file", path)
	case st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return nil, fmt.Errorf("%s belongs to user %d, want root", path, st.Uid)
	case st.Mode&0o022 != 0:
		return nil, fmt.Errorf("%s has mode %04o: others than root may write to it", path, st.Mode&0o7777)
	case st.Size > MaxFile:
		return nil, fmt.Errorf("%s has %d bytes, at most %d are read", path, st.Size, MaxFile)
	}
	return io.ReadAll(io.LimitReader(f, MaxFile))
}
