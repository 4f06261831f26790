package nettest

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// snapshotProcesses lists the processes that have something to do with what
// the snapshot looks at, and why they are listed.
func snapshotProcesses(s *sections, opts SnapshotOptions) error {
	own, err := os.Stat("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	spaces := map[string]fs.FileInfo{}
	for label, path := range opts.Namespaces {
		info, statErr := os.Stat(path)
		if errors.Is(statErr, fs.ErrNotExist) || statErr == nil && os.SameFile(info, own) {
			continue
		}
		if statErr != nil {
			return statErr
		}
		spaces[label] = info
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	var lines []string
	for _, entry := range entries {
		pid, notPid := strconv.Atoi(entry.Name())
		if notPid != nil || pid == os.Getpid() {
			continue
		}
		p := process{dir: filepath.Join("/proc", entry.Name())}
		if why := p.reasons(spaces, opts.Dirs); len(why) > 0 {
			lines = append(lines, fmt.Sprintf("process %s: %s", p.name(), strings.Join(why, ", ")))
		}
	}
	s.add("processes", lines)
	return nil
}

// process is one directory of /proc. A process may end at any time; then what
// it was asked for is empty.
type process struct{ dir string }

// name returns the executable's name and argv[0].
func (p process) name() string {
	argv0 := ""
	if cmdline, err := os.ReadFile(filepath.Join(p.dir, "cmdline")); err == nil {
		argv0, _, _ = strings.Cut(string(cmdline), "\x00")
	}
	return fmt.Sprintf("%s (argv0 %q)", filepath.Base(p.link("exe")), argv0)
}

// link returns where a link of the process points to.
func (p process) link(name string) string {
	target, err := os.Readlink(filepath.Join(p.dir, name))
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(target, " (deleted)")
}

// reasons says why the process belongs into the snapshot, if it does.
func (p process) reasons(spaces map[string]fs.FileInfo, dirs []SnapshotDir) []string {
	why := map[string]bool{}
	if info, err := os.Stat(filepath.Join(p.dir, "ns", "net")); err == nil {
		for label, space := range spaces {
			if os.SameFile(space, info) {
				why["in namespace "+label] = true
			}
		}
	}
	if path := p.below(p.link("exe"), dirs); path != "" {
		why["runs "+path] = true
	}
	fds, _ := os.ReadDir(filepath.Join(p.dir, "fd"))
	for _, fd := range fds {
		if path := p.below(p.link(filepath.Join("fd", fd.Name())), dirs); path != "" {
			why["holds "+path+" open"] = true
		}
	}
	return slices.Sorted(maps.Keys(why))
}

// below returns the path as the snapshot shows it, when it lies in one of the
// directories.
func (p process) below(path string, dirs []SnapshotDir) string {
	for _, dir := range dirs {
		// The kernel shows where files really are.
		real, err := filepath.EvalSymlinks(dir.Path)
		if err != nil {
			real = dir.Path
		}
		if rest, ok := strings.CutPrefix(path, strings.TrimSuffix(real, "/")+"/"); ok && p.sees(dir.Path, real) {
			return filepath.Join(dir.label(), rest)
		}
	}
	return ""
}

// sees says whether the process means the directory by its path: in another
// mount namespace that may be another one.
func (p process) sees(dir, path string) bool {
	here, err := os.Stat(dir)
	if err != nil {
		return true // it has been removed
	}
	there, err := os.Stat(filepath.Join(p.dir, "root", path))
	return err != nil || os.SameFile(here, there)
}
