package lockfile

import (
	"io/fs"
	"os"
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
