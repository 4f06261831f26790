package install

import (
	"context"
	"os"
	"time"

	"github.com/fsnotify/fsnotify"
)

// watcher wakes up when one of the node's directories changes, and after a
// while in any case: a directory may be made, mounted or exchanged later.
type watcher struct {
	fs   *fsnotify.Watcher // nil: the node has no inotify instance left, and polling must do
	dirs map[string]os.FileInfo
}

func newWatcher() *watcher {
	w := &watcher{dirs: map[string]os.FileInfo{}}
	if fs, err := fsnotify.NewWatcher(); err == nil {
		w.fs = fs
	}
	return w
}

func (w *watcher) close() {
	if w.fs != nil {
		_ = w.fs.Close()
	}
}

// add watches directories, those anew that are others now behind the same path.
func (w *watcher) add(dirs ...string) {
	for _, dir := range dirs {
		info, err := os.Stat(dir)
		if known := w.dirs[dir]; w.fs == nil || (err == nil && known != nil && os.SameFile(known, info)) {
			continue
		}
		_ = w.fs.Remove(dir) // one that is gone is not watched any more
		delete(w.dirs, dir)
		if err == nil && w.fs.Add(dir) == nil {
			w.dirs[dir] = info
		}
	}
}

// wait returns at the next change, or after the pause. It is false when ctx
// has ended.
func (w *watcher) wait(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	var events chan fsnotify.Event
	var errs chan error
	if w.fs != nil {
		events, errs = w.fs.Events, w.fs.Errors
	}
	for {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return true
		case <-errs: // events were lost
			return true
		case e := <-events:
			if e.Op != fsnotify.Chmod {
				return true
			}
		}
	}
}
