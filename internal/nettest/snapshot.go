package nettest

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// SnapshotOptions says what a snapshot looks at. What is not named is not
// looked at.
type SnapshotOptions struct {
	// Namespaces are paths of network namespaces by the label that the
	// snapshot shows. A path that is not there is shown as absent.
	Namespaces map[string]string
	// Dirs are directories; every file below them is shown, every lock on such
	// a file, and every process that uses one or runs one.
	Dirs []SnapshotDir
	// NetnsPrefix shows the names in /run/netns that begin with it.
	NetnsPrefix string
}

// SnapshotDir is a directory to look at.
type SnapshotDir struct {
	Path  string
	Label string // what the snapshot shows instead of the path, if not empty
	Files FileDetail
}

// FileDetail says what a snapshot shows of a file besides its name.
type FileDetail int

const (
	// FileMeta shows mode and size.
	FileMeta FileDetail = iota
	// FileHash shows the mode and a hash of the content.
	FileHash
	// FileContent shows the content, and no mode: for leases.
	FileContent
	// FileName shows nothing more.
	FileName
)

// label returns what the snapshot calls the directory.
func (d SnapshotDir) label() string {
	if d.Label != "" {
		return d.Label
	}
	return d.Path
}

// Snapshot writes down everything that a CNI plugin could leave behind, so
// that two snapshots are equal exactly when nothing leaked. Every line says by
// itself where it belongs; the lines of a section are sorted. What changes
// without anybody's doing (indexes, MACs, counters, process ids, the random
// part of vethXXXXXXXX) is left out.
//
// Of the machine's own namespace, the one of the calling process, processes
// are not shown, and of the others the calling process is not.
func Snapshot(opts SnapshotOptions) (string, error) {
	var s sections
	for _, label := range slices.Sorted(maps.Keys(opts.Namespaces)) {
		if err := snapshotNamespace(&s, label, opts.Namespaces[label]); err != nil {
			return "", fmt.Errorf("snapshot namespace %s: %w", label, err)
		}
	}
	for _, dir := range opts.Dirs {
		if err := snapshotDir(&s, dir); err != nil {
			return "", fmt.Errorf("snapshot directory %s: %w", dir.Path, err)
		}
	}
	if err := snapshotProcesses(&s, opts); err != nil {
		return "", fmt.Errorf("snapshot processes: %w", err)
	}
	if err := snapshotLocks(&s, opts.Dirs); err != nil {
		return "", fmt.Errorf("snapshot locks: %w", err)
	}
	if opts.NetnsPrefix != "" {
		if err := snapshotNames(&s, opts.NetnsPrefix); err != nil {
			return "", fmt.Errorf("snapshot names: %w", err)
		}
	}
	return s.text.String(), nil
}

// snapshotNames lists the named namespaces.
func snapshotNames(s *sections, prefix string) error {
	entries, err := os.ReadDir(netnsDir)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	var lines []string
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), prefix) {
			lines = append(lines, "netns "+entry.Name())
		}
	}
	s.add("names in "+netnsDir, lines)
	return nil
}

// sections collects a snapshot's text.
type sections struct{ text strings.Builder }

// add writes a section with its lines sorted.
func (s *sections) add(title string, lines []string) {
	slices.Sort(lines)
	s.addOrdered(title, lines)
}

// addOrdered writes a section whose order means something.
func (s *sections) addOrdered(title string, lines []string) {
	fmt.Fprintf(&s.text, "== %s\n", title)
	for _, line := range lines {
		s.text.WriteString(strings.TrimRight(line, " "))
		s.text.WriteByte('\n')
	}
}
