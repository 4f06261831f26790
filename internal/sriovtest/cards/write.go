package cards

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// node is a directory of a device, as it is when the kernel first shows it.
type node struct {
	files map[string]string
	links map[string]string // to paths of the tree
}

func must(err error) {
	if err != nil {
		panic(fmt.Sprintf("cards: %v", err))
	}
}

func (t *Tree) in(path string) string { return filepath.Join(t.dir, path) }
func (t *Tree) mkdir(path string)     { must(os.MkdirAll(t.in(path), 0o755)) }

// link makes a link as the kernel writes them: by way of the target's parent,
// so that it ends in the target's name even where that is above.
func (t *Tree) link(path, target string) { must(os.Symlink(relative(path, target), t.in(path))) }

func relative(path, target string) string {
	parent, err := filepath.Rel(filepath.Dir(path), filepath.Dir(target))
	must(err)
	return filepath.Join(parent, filepath.Base(target))
}

// put shows a directory, whole: no reader sees half of its files.
func (t *Tree) put(path string, n node) {
	t.mkdir(filepath.Dir(path))
	staged, err := os.MkdirTemp(t.dir, ".new")
	must(err)
	must(os.Chmod(staged, 0o755))
	for name, text := range n.files {
		must(os.WriteFile(filepath.Join(staged, name), []byte(text+"\n"), 0o644))
	}
	for name, target := range n.links {
		must(os.Symlink(relative(filepath.Join(path, name), target), filepath.Join(staged, name)))
	}
	must(os.Rename(staged, t.in(path)))
}

// write changes a file at once: a reader sees the old text or the new.
func (t *Tree) write(path, text string) {
	f, err := os.CreateTemp(t.dir, ".new")
	must(err)
	_, err = f.WriteString(text + "\n")
	must(errors.Join(err, f.Chmod(0o644), f.Close()))
	must(os.Rename(f.Name(), t.in(path)))
}

func (t *Tree) remove(path string) {
	if err := os.RemoveAll(t.in(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		must(err)
	}
}
