package deviceplugin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/fsnotify/fsnotify"
)

// fileWatcher follows the claims and the configuration file.
type fileWatcher struct {
	*fsnotify.Watcher
	claims string // directory
	config string // file
	add    func(dir string) error

	mu  sync.Mutex
	dir string // of the configuration file, or the nearest above it that is there
}

// watchFiles starts a watcher.
func (m *Manager) watchFiles(ctx context.Context, running *sync.WaitGroup) error {
	if err := os.MkdirAll(m.Claims.Dir, 0o700); err != nil {
		return fmt.Errorf("watch the claims: %w", err)
	}
	inotify, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch files: %w; raise fs.inotify.max_user_instances", err)
	}
	w := &fileWatcher{Watcher: inotify, claims: m.Claims.Dir, config: m.ConfigPath, add: inotify.Add}
	if err = inotify.Add(m.Claims.Dir); err != nil {
		return errors.Join(fmt.Errorf("watch %s: %w; raise fs.inotify.max_user_watches", m.Claims.Dir, err), inotify.Close())
	}
	w.find()
	running.Go(func() {
		<-ctx.Done()
		_ = inotify.Close() // nothing was written
	})
	running.Go(func() { m.follow(w) })
	return nil
}

// find watches the directory of the configuration file, or as long as that is
// not there, the nearest one above it.
func (w *fileWatcher) find() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for !w.found() {
	}
}

// found is one try. What comes between two looks of it tells of itself no more.
func (w *fileWatcher) found() bool {
	missing := ""
	for dir := filepath.Dir(w.config); ; dir = filepath.Dir(dir) {
		// Adding it again is how a directory is found that took another's place.
		err := w.add(dir)
		if err != nil && dir != filepath.Dir(dir) {
			if missing = ""; errors.Is(err, fs.ErrNotExist) {
				missing = dir
			}
			continue
		}
		if w.dir != dir && w.dir != "" && w.dir != w.claims {
			_ = w.Remove(w.dir) // it may be gone
		}
		w.dir = dir
		_, err = os.Stat(missing)
		return missing == "" || err != nil
	}
}

// follow passes on what concerns the claims and the configuration.
func (m *Manager) follow(w *fileWatcher) {
	for {
		select {
		case event, ok := <-w.Events:
			if !ok {
				return
			}
			if cause := w.cause(event.Name); cause != "" {
				m.pending.add(cause)
			}
			if event.Name == w.claims {
				w.remake(m)
			}
			if w.moved(event.Name) {
				w.find()
				m.pending.add(causeConfig)
			}
		case err, ok := <-w.Errors:
			if !ok {
				return
			}
			m.pending.add(causeLost)
			if !errors.Is(err, fsnotify.ErrEventOverflow) {
				m.notices.check(m.Log, "inotify", "files are not watched well", err)
			}
		}
	}
}

// remake watches the directory of claims anew: it was removed or renamed, as
// when multiplexer is installed again.
func (w *fileWatcher) remake(m *Manager) {
	err := os.MkdirAll(w.claims, 0o700)
	if err == nil {
		err = w.Add(w.claims)
	}
	m.notices.check(m.Log, "claims", "the directory of claims is not watched: what happens to VFs in pods is seen at the next rescan only", err)
	m.pending.add(causeClaim)
}

// cause says what a changed file is to the manager, "" = nothing. A ConfigMap's
// files are links by way of ..data, which is swapped.
func (w *fileWatcher) cause(path string) string {
	dir, name := filepath.Split(path)
	dir = filepath.Clean(dir)
	switch {
	case dir == w.claims && strings.HasSuffix(name, ".json"):
		return causeClaim
	case dir == filepath.Dir(w.config) && (name == filepath.Base(w.config) || name == "..data"):
		return causeConfig
	}
	return ""
}

// moved reports whether another directory may have to be watched for the
// configuration: the watched one went, or one on the way to it came.
func (w *fileWatcher) moved(path string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	dir := filepath.Dir(w.config)
	return path == w.dir || w.dir != dir && (path == dir || strings.HasPrefix(dir, path+string(filepath.Separator)))
}
