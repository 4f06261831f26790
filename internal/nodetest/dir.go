package nodetest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// dirPrefix is how the directories of clusters begin, and so do the names of
// their nodes' cgroups.
const dirPrefix = "mxnode-"

// tempDir is a directory that this process holds a lock on, so that another
// process can tell it from one whose owner was killed.
type tempDir struct {
	path string
	lock *os.File
}

func makeTempDir() (*tempDir, error) {
	removeAbandoned()
	path, err := os.MkdirTemp("", dirPrefix)
	if err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	lock, err := lockDir(path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock directory: %w", err), os.RemoveAll(path))
	}
	return &tempDir{path: path, lock: lock}, nil
}

func (d *tempDir) file(name string) string { return filepath.Join(d.path, name) }

// remove removes the cgroups of the nodes first: they hold nothing any more.
func (d *tempDir) remove() error {
	return errors.Join(removeCgroups(filepath.Base(d.path)), os.RemoveAll(d.path), d.lock.Close())
}

func lockDir(path string) (*os.File, error) {
	dir, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err = unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = dir.Close()
		return nil, err
	}
	return dir, nil
}

// removeAbandoned removes what killed test processes left. A new directory is
// left alone: its owner may be about to lock it.
func removeAbandoned() {
	paths, err := filepath.Glob(filepath.Join(os.TempDir(), dirPrefix+"*"))
	if err != nil {
		return
	}
	for _, path := range paths {
		info, statErr := os.Stat(path)
		if statErr != nil || time.Since(info.ModTime()) < time.Minute {
			continue
		}
		lock, lockErr := lockDir(path)
		if lockErr != nil {
			continue
		}
		abandoned := &tempDir{path: path, lock: lock}
		_ = abandoned.remove()
	}
}
