package sriov

import (
	"errors"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// pciDir is an open directory of sysfs. What is read through it is of the
// function that was there when it was opened: one that comes to the same
// address later has another directory. Nothing is read twice and no path is
// walked twice, so that a node with hundreds of VFs is read in milliseconds.
type pciDir struct {
	fd   int
	path string
	// err is the first that does not say "there is none", such as too many
	// open files: what was read since is not the truth.
	err error
}

// openDir opens a directory below another, which may be unix.AT_FDCWD. nil =
// there is none.
func openDir(at int, path string) (*pciDir, error) {
	parent := pciDir{fd: at}
	fd := parent.open(path, unix.O_PATH|unix.O_DIRECTORY)
	if fd < 0 {
		return nil, parent.err
	}
	return &pciDir{fd: fd, path: path}, nil
}

func (d *pciDir) close() { _ = unix.Close(d.fd) } // nothing was written

// open returns -1 for what cannot be opened.
func (d *pciDir) open(name string, flags int) int {
	for {
		fd, err := unix.Openat(d.fd, name, unix.O_CLOEXEC|flags, 0)
		switch {
		case err == nil:
			return fd
		case errors.Is(err, unix.EINTR):
		case gone(err):
			return -1
		default:
			d.failed(name, err)
			return -1
		}
	}
}

// gone reports whether an error says that a file or its device is not there.
func gone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO)
}

func (d *pciDir) failed(name string, err error) {
	if d.err == nil {
		d.err = network.IO.Errorf("read %s: %w", filepath.Join(d.path, name), err)
	}
}

// word returns a file's text, "" if there is none: sysfs answers some reads
// with an error where the driver knows nothing.
func (d *pciDir) word(name string) string {
	fd := d.open(name, unix.O_RDONLY)
	if fd < 0 {
		return ""
	}
	defer unix.Close(fd)
	var text [256]byte
	for {
		n, err := unix.Read(fd, text[:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		return strings.TrimSpace(string(text[:max(n, 0)]))
	}
}

// number returns a file's number, or another where there is none.
func (d *pciDir) number(name string, otherwise int) int {
	n, err := strconv.Atoi(d.word(name))
	if err != nil {
		return otherwise
	}
	return n
}

// link returns where a link leads, "" if there is none.
func (d *pciDir) link(name string) string {
	var target [unix.PathMax]byte
	n, err := unix.Readlinkat(d.fd, name, target[:])
	if err != nil {
		if !gone(err) {
			d.failed(name, err)
		}
		return ""
	}
	return string(target[:n])
}

// linkBase returns the last name of where a link leads, "" if there is none.
func (d *pciDir) linkBase(name string) string {
	target := d.link(name)
	return target[strings.LastIndexByte(target, '/')+1:]
}

// names returns what is in a directory, sorted.
func (d *pciDir) names(dir string) []string {
	fd := d.open(dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if fd < 0 {
		return nil
	}
	defer unix.Close(fd)
	var names []string
	var entries [4096]byte
	for {
		n, err := unix.Getdents(fd, entries[:])
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil && !gone(err):
			d.failed(dir, err)
		}
		if err != nil || n == 0 {
			slices.Sort(names)
			return names
		}
		_, _, names = unix.ParseDirent(entries[:n], -1, names)
	}
}
