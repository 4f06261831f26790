package kubelet

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/fsnotify/fsnotify"
)

// Watch tells device plugins of files that come and go in kubelet's
// directories, which may come and go themselves. All plugins of a process
// share one: each holds an inotify instance, and root has 128 of them.
type Watch struct {
	dirs []string

	mu      sync.Mutex
	seen    []os.FileInfo // of dirs, nil for one that is missing
	watcher *fsnotify.Watcher
	wakes   map[chan<- struct{}]struct{}
}

// NewWatch makes a watch of kubelet's directory. It takes nothing from the
// machine until the first plugin runs with it, nor after the last one has
// ended.
func NewWatch(kubeletDir string) *Watch {
	return &Watch{
		dirs:  []string{filepath.Clean(kubeletDir), filepath.Join(kubeletDir, watcherDir), filepath.Join(kubeletDir, registerDir)},
		wakes: map[chan<- struct{}]struct{}{},
	}
}

// follow watches the directories that are there now, and wakes the caller when
// something in them comes or goes, until it leaves. What is there already is
// the caller's to look at, after this.
func (w *Watch) follow(wake chan<- struct{}) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wakes[wake] = struct{}{}
	now := make([]os.FileInfo, len(w.dirs))
	for i, dir := range w.dirs {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			now[i] = info
		}
	}
	var err error
	if w.watcher == nil || w.replaced(now) {
		err = w.anew()
	}
	if w.watcher == nil {
		return err
	}
	w.seen = now
	return errors.Join(err, w.add())
}

// replaced reports whether a watched directory is another than before: fsnotify
// mixes up two of one name.
func (w *Watch) replaced(now []os.FileInfo) bool {
	for i, seen := range w.seen {
		if seen != nil && (now[i] == nil || !os.SameFile(now[i], seen)) {
			return true
		}
	}
	return false
}

// anew takes another inotify instance. What the one before had not told is
// lost: everybody looks.
func (w *Watch) anew() error {
	err := w.close()
	watcher, nerr := fsnotify.NewWatcher()
	if nerr != nil {
		return errors.Join(err, fmt.Errorf("watch kubelet's directories: %w: raise fs.inotify.max_user_instances; until then they are looked at each second", nerr))
	}
	w.watcher = watcher
	go w.tell(watcher)
	w.rouse()
	return err
}

// add watches the directories that are there and are not watched. One that was
// removed is watched no more, even if it is there again.
func (w *Watch) add() error {
	var failed []error
	watched := w.watcher.WatchList()
	for i, dir := range w.dirs {
		if w.seen[i] == nil || slices.Contains(watched, dir) {
			continue
		}
		if err := w.watcher.Add(dir); err != nil {
			failed = append(failed, fmt.Errorf("watch %s: %w: raise fs.inotify.max_user_watches; until then it is looked at each second", dir, err))
		}
	}
	return errors.Join(failed...)
}

// tell wakes everybody when something comes, goes, or may have been missed,
// until the watcher is closed.
func (w *Watch) tell(of *fsnotify.Watcher) {
	for {
		select {
		case event, open := <-of.Events:
			if !open {
				return
			}
			if !event.Has(fsnotify.Create) && !event.Has(fsnotify.Remove) && !event.Has(fsnotify.Rename) {
				continue
			}
		case _, open := <-of.Errors:
			if !open {
				return
			}
		}
		w.mu.Lock()
		w.rouse()
		w.mu.Unlock()
	}
}

// rouse wakes everybody. The caller holds mu.
func (w *Watch) rouse() {
	for wake := range w.wakes {
		select {
		case wake <- struct{}{}:
		default: // it will look already
		}
	}
}

// leave ends the watch for one; the last one gives the inotify instance back.
func (w *Watch) leave(wake chan<- struct{}) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.wakes, wake)
	if len(w.wakes) > 0 {
		return nil
	}
	return w.close()
}

func (w *Watch) close() error {
	if w.watcher == nil {
		return nil
	}
	err := w.watcher.Close()
	w.watcher, w.seen = nil, nil
	return err
}
