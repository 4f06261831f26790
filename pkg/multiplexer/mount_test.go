package multiplexer_test

import (
	"strings"

	"golang.org/x/sys/unix"
)

func mountTmpfs(dir, options string) error {
	var flags uintptr
	if rest, ok := strings.CutSuffix(options, ",ro"); ok {
		options, flags = rest, unix.MS_RDONLY
	}
	return unix.Mount("tmpfs", dir, "tmpfs", flags, options)
}

func unmount(dir string) error { return unix.Unmount(dir, unix.MNT_DETACH) }
