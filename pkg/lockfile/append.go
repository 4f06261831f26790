package lockfile

import (
	"fmt"
	"os"
)

// OpenAppend opens a log to append to, and makes it. It opens a regular file and
// nothing else: a pipe would wait for a reader, and a device is not for logs.
func OpenAppend(path string) (*os.File, error) {
	f, err := openRegular(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY)
	if Irregular(err) {
		err = fmt.Errorf("%s %w", path, ErrIrregular)
	}
	return f, err
}
