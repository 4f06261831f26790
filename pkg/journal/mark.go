package journal

import (
	"errors"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// networksMark stands in the mark of a container that is to go on with the
// cluster network alone. A plugin that does not know it takes the mark for a
// suspicion, finds the container alive, and drops it.
const networksMark = "networks\n"

// Mark leaves a note that a container is to be released, once whoever reads it
// has made sure that nobody uses it any more.
func (s *Store) Mark(container string) error { return s.mark(container, "") }

// MarkNetworks leaves a note that a container's networks, all but the cluster
// network, are to be released although it lives. It counts more than Mark's.
func (s *Store) MarkNetworks(container string) error { return s.mark(container, networksMark) }

// mark never shortens a note that is there.
func (s *Store) mark(container, note string) error {
	if err := network.ValidateContainerID(container); err != nil {
		return err
	}
	f, err := s.create(releaseDir, container, os.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK) // a FIFO would wait for a reader
	if err != nil {
		return err
	}
	_, err = f.WriteString(note)
	if err = errors.Join(err, f.Close()); err != nil {
		return s.failed(err)
	}
	return nil
}

// NetworksMarked reports whether a container's mark is about its networks.
func (s *Store) NetworksMarked(container string) (bool, error) {
	f, err := os.OpenFile(s.path(releaseDir, container), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, s.failed(err)
	}
	defer f.Close()
	if _, err = removed(f); err != nil { // it is no file
		return false, s.failed(err)
	}
	note, err := io.ReadAll(io.LimitReader(f, int64(len(networksMark))))
	if err != nil {
		return false, s.failed(err)
	}
	return string(note) == networksMark, nil
}

// Unmark takes a mark for release away.
func (s *Store) Unmark(container string) error {
	err := os.Remove(s.path(releaseDir, container))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s.failed(err)
	}
	return nil
}
