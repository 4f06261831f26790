package kubetest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// dirPrefix is how the directories of clusters begin.
const dirPrefix = "multiplexer-kubetest-"

// TempDir is a directory that this process holds a lock on, so that another
// process can tell it from one whose owner was killed.
type TempDir struct {
	Path string

	lock   *os.File
	before func(path string) error // what else goes, before the directory; nil = nothing
}

// MakeTempDir makes a directory in TMPDIR whose name begins with prefix, after
// it has removed those that killed processes left. Before a directory is
// removed, before is called with its path, for what lies elsewhere; nil: there
// is no such thing.
func MakeTempDir(prefix string, before func(path string) error) (*TempDir, error) {
	removeAbandoned(prefix, before)
	path, err := os.MkdirTemp("", prefix)
	if err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	lock, err := lockDir(path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock directory: %w", err), os.RemoveAll(path))
	}
	return &TempDir{Path: path, lock: lock, before: before}, nil
}

// File is the path of a file in the directory.
func (d *TempDir) File(name string) string { return filepath.Join(d.Path, name) }

// Remove removes the directory and what is in it.
func (d *TempDir) Remove() error {
	var err error
	if d.before != nil {
		err = d.before(d.Path)
	}
	return errors.Join(err, os.RemoveAll(d.Path), d.lock.Close())
}

// lockDir fails when another process holds the lock. Children do not inherit it.
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

// removeAbandoned removes what killed test processes left, 100 MB each. A new
// directory is left alone: its owner may be about to lock it.
func removeAbandoned(prefix string, before func(path string) error) {
	paths, err := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*"))
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
		abandoned := &TempDir{Path: path, lock: lock, before: before}
		_ = abandoned.Remove()
	}
}
