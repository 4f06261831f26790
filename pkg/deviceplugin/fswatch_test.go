package deviceplugin

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/fsnotify/fsnotify"
)

// A directory that comes just after it was looked for is watched too: the one
// above it, which is watched from then on, does not tell of it any more.
func TestDirectoryComesMeanwhile(t *testing.T) {
	top := t.TempDir()
	inotify, err := fsnotify.NewWatcher()
	must(t, err)
	defer inotify.Close()
	dir := filepath.Join(top, "late", "mount")
	w := &fileWatcher{Watcher: inotify, config: filepath.Join(dir, "config.json"), add: func(of string) error {
		addErr := inotify.Add(of)
		switch of {
		case dir:
			if addErr != nil {
				must(t, os.MkdirAll(filepath.Dir(dir), 0o755))
			}
		case filepath.Dir(dir):
			must(t, os.MkdirAll(dir, 0o755))
		}
		return addErr
	}}
	w.find()
	if w.dir != dir {
		t.Errorf("watches %s, want %s", w.dir, dir)
	}
}
