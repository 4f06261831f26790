package kubelet

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/fsnotify/fsnotify"
)

// dirWatch tells of files that come and go in directories, which may come and
// go themselves.
type dirWatch struct {
	dirs    []string
	seen    []os.FileInfo // of dirs, nil for one that is missing
	watcher *fsnotify.Watcher
}

// follow watches the directories that are there now. It starts anew when one
// is another than before: a watcher mixes up two of one name.
func (w *dirWatch) follow() error {
	now := make([]os.FileInfo, len(w.dirs))
	for i, dir := range w.dirs {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			now[i] = info
		}
	}
	if w.watcher != nil && w.follows(now) {
		return nil
	}
	err := w.close()
	watcher, nerr := fsnotify.NewWatcher()
	if nerr != nil {
		return errors.Join(err, fmt.Errorf("watch kubelet's directories: %w: raise fs.inotify.max_user_instances; until then they are looked at each second", nerr))
	}
	w.watcher, w.seen = watcher, now
	for i, dir := range w.dirs {
		if now[i] == nil {
			continue
		}
		if aerr := watcher.Add(dir); aerr != nil {
			err = errors.Join(err, fmt.Errorf("watch %s: %w: raise fs.inotify.max_user_watches", dir, aerr))
			w.seen[i] = nil
		}
	}
	return err
}

func (w *dirWatch) follows(now []os.FileInfo) bool {
	watched := w.watcher.WatchList() // without those that were removed
	for i, info := range now {
		if (info == nil) != (w.seen[i] == nil) {
			return false
		}
		if info != nil && (!os.SameFile(info, w.seen[i]) || !slices.Contains(watched, w.dirs[i])) {
			return false
		}
	}
	return true
}

// channels are nil without a watcher.
func (w *dirWatch) channels() (<-chan fsnotify.Event, <-chan error) {
	if w.watcher == nil {
		return nil, nil
	}
	return w.watcher.Events, w.watcher.Errors
}

func (w *dirWatch) close() error {
	if w.watcher == nil {
		return nil
	}
	err := w.watcher.Close()
	w.watcher, w.seen = nil, nil
	return err
}
