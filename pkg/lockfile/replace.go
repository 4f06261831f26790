package lockfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Replace writes a file whole or not at all, by way of a file beside it that
// ends in ".tmp". Two must not write the same file at once.
func Replace(path string, content []byte, mode fs.FileMode) error {
	temp := path + ".tmp"
	if err := os.WriteFile(temp, content, mode); err != nil {
		return err
	}
	return os.Rename(temp, path)
}

// ReplaceShared is Replace for a file that two processes may write at once,
// such as two agents in an upgrade: each has a file beside it of its own.
func ReplaceShared(path string, content []byte, mode fs.FileMode) error {
	temp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	_, err = temp.Write(content)
	if err = errors.Join(err, temp.Chmod(mode), temp.Close()); err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		_ = os.Remove(temp.Name()) // the error before counts
	}
	return err
}
