package nettest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// snapshotDir lists the files below a directory. Directories themselves are
// not shown: an empty one holds nothing.
func snapshotDir(s *sections, dir SnapshotDir) error {
	label := dir.label()
	if _, err := os.Lstat(dir.Path); errors.Is(err, fs.ErrNotExist) {
		s.add("files of "+label, []string{"file " + label + " absent"})
		return nil
	}
	var lines []string
	err := walkFiles(dir.Path, func(path string, info fs.FileInfo) error {
		relative, err := filepath.Rel(dir.Path, path)
		if err != nil {
			return err
		}
		detail, err := fileDetail(path, info, dir.Files)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		lines = append(lines, fmt.Sprintf("file %s/%s %s", label, relative, detail))
		return err
	})
	if err != nil {
		return err
	}
	s.add("files of "+label, lines)
	return nil
}

// walkFiles calls f for everything below dir that is no directory. What
// disappears meanwhile is not there.
func walkFiles(dir string, f func(path string, info fs.FileInfo) error) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		return f(path, info)
	})
}

func fileDetail(path string, info fs.FileInfo, detail FileDetail) (string, error) {
	if detail == FileName {
		return "", nil
	}
	if !info.Mode().IsRegular() {
		target, err := "", error(nil)
		if info.Mode()&fs.ModeSymlink != 0 {
			target, err = os.Readlink(path)
		}
		return fmt.Sprintf("%s %s", info.Mode(), target), err
	}
	if detail == FileMeta {
		return fmt.Sprintf("%s size %d", info.Mode(), info.Size()), nil
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	if detail == FileContent {
		return fmt.Sprintf("%q", content), nil
	}
	return fmt.Sprintf("%s sha256 %.8x", info.Mode(), sha256.Sum256(content)), nil
}

// snapshotLocks lists the locks on files below the directories.
func snapshotLocks(s *sections, dirs []SnapshotDir) error {
	paths := map[string]string{} // by MAJOR:MINOR:INODE, as /proc/locks has it
	for _, dir := range dirs {
		err := walkFiles(dir.Path, func(path string, _ fs.FileInfo) error {
			var stat unix.Stat_t
			if err := unix.Lstat(path, &stat); err != nil {
				return nil // gone
			}
			relative, err := filepath.Rel(dir.Path, path)
			key := fmt.Sprintf("%02x:%02x:%d", unix.Major(stat.Dev), unix.Minor(stat.Dev), stat.Ino)
			paths[key] = filepath.Join(dir.label(), relative)
			return err
		})
		if err != nil {
			return err
		}
	}
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		return err
	}
	var lines []string
	for line := range bytes.Lines(locks) {
		// 1: FLOCK  ADVISORY  WRITE 2950 fe:00:10143704 0 EOF
		// 1: -> FLOCK  ADVISORY  WRITE 2951 fe:00:10143704 0 EOF
		fields := strings.Fields(string(line))
		state := "held"
		if len(fields) > 1 && fields[1] == "->" {
			fields, state = fields[1:], "waited for"
		}
		if len(fields) < 6 {
			continue
		}
		if path, ok := paths[fields[5]]; ok {
			lines = append(lines, fmt.Sprintf("lock %s %s %s %s", path, fields[1], fields[3], state))
		}
	}
	s.add("locks", lines)
	return nil
}
