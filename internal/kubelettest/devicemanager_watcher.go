package kubelettest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

// The times of the real plugin watcher, all a tenth of what it waits.
const (
	reconcilePause = 100 * time.Millisecond
	firstBackoff   = 50 * time.Millisecond
	lastBackoff    = 12 * time.Second
)

// atOnce is how many operations run at once. The real one has no such limit: a
// hundred plugins that come together would outlast its patience with each on a
// machine that is busy otherwise.
const atOnce = 16

// pluginWatcher is kubelet's plugin manager: the sockets that are there, and
// those that are registered. A socket that appears again is another one.
type pluginWatcher struct {
	run     *managerRun
	dir     string
	watcher *fsnotify.Watcher

	turns chan struct{} // of operations that run

	mu         sync.Mutex
	count      int
	desired    map[string]int            // which appearance, by path
	registered map[string]knownPlugin    // by path
	pending    map[string]bool           // an operation runs, by path
	backoff    map[string]*pluginBackoff // by path
}

type knownPlugin struct {
	appearance     int
	name, endpoint string
}

type pluginBackoff struct {
	wait time.Duration
	next time.Time
}

func (run *managerRun) watchPlugins(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("start plugin watcher: %w", err)
	}
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("start plugin watcher: %w", err)
	}
	w := &pluginWatcher{run: run, dir: dir, watcher: watcher, turns: make(chan struct{}, atOnce), desired: map[string]int{}, registered: map[string]knownPlugin{},
		pending: map[string]bool{}, backoff: map[string]*pluginBackoff{}}
	run.plugins = w
	if err = watcher.Add(dir); err != nil {
		return errors.Join(fmt.Errorf("start plugin watcher: %w", err), watcher.Close())
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return errors.Join(fmt.Errorf("start plugin watcher: %w", err), watcher.Close())
	}
	for _, entry := range entries {
		w.appeared(filepath.Join(dir, entry.Name()))
	}
	run.running.Go(w.loop)
	return nil
}

func (w *pluginWatcher) loop() {
	defer w.watcher.Close()
	ticker := time.NewTicker(reconcilePause)
	defer ticker.Stop()
	for {
		select {
		case <-w.run.ctx.Done():
			return
		case event := <-w.watcher.Events:
			if event.Has(fsnotify.Create) {
				w.appeared(event.Name)
			} else if event.Has(fsnotify.Remove) {
				w.vanished(event.Name)
			}
		case <-w.watcher.Errors:
		case <-ticker.C:
			w.reconcile()
		}
	}
}

// appeared notes a socket, if it is one and its name has no dot before it.
func (w *pluginWatcher) appeared(path string) {
	info, err := os.Stat(path)
	if err != nil || info.Mode().Type() != fs.ModeSocket || strings.HasPrefix(info.Name(), ".") {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.count++
	w.desired[path] = w.count
}

func (w *pluginWatcher) vanished(path string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.desired, path)
}

// reconcile ends registrations of sockets that vanished or appeared again,
// and begins those that are missing. There is one operation for a path at once.
func (w *pluginWatcher) reconcile() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for path, known := range w.registered {
		if w.desired[path] != known.appearance {
			w.start(path, func() error {
				w.mu.Lock()
				delete(w.registered, path)
				w.mu.Unlock()
				w.run.m.deregister(known.name, known.endpoint)
				return nil
			})
		}
	}
	for path, appearance := range w.desired {
		if w.registered[path].appearance != appearance {
			w.start(path, func() error { return w.register(path, appearance) })
		}
	}
}

// start runs an operation, later and later after errors. The caller holds mu.
func (w *pluginWatcher) start(path string, operation func() error) {
	b := w.backoff[path]
	if w.pending[path] || b != nil && time.Now().Before(b.next) {
		return
	}
	w.pending[path] = true
	w.run.running.Go(func() {
		w.turns <- struct{}{}
		err := operation()
		<-w.turns
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.pending, path)
		if err == nil {
			delete(w.backoff, path)
			return
		}
		if b == nil {
			b = &pluginBackoff{wait: firstBackoff / 2}
			w.backoff[path] = b
		}
		b.wait = min(2*b.wait, lastBackoff)
		b.next = time.Now().Add(b.wait)
	})
}

// register asks a plugin who it is, connects to it, and tells it the outcome.
func (w *pluginWatcher) register(path string, appearance int) error {
	conn, err := dialPlugin(w.run.ctx, path)
	if err != nil {
		return err
	}
	defer conn.Close()
	plugin := registration.NewRegistrationClient(conn)
	ctx, cancel := context.WithTimeout(w.run.ctx, time.Second)
	defer cancel()
	info, err := plugin.GetInfo(ctx, &registration.InfoRequest{})
	if err != nil {
		return err
	}
	if info.GetType() != registration.DevicePlugin {
		return w.notify(plugin, fmt.Errorf("no handler registered for plugin type: %s at socket %s", info.GetType(), path))
	}
	endpoint := info.GetEndpoint()
	if endpoint == "" {
		endpoint = path
	}
	if err = w.run.m.validate(info.GetName(), info.GetSupportedVersions()...); err != nil {
		return w.notify(plugin, fmt.Errorf("plugin validation failed with err: %w", err))
	}
	w.mu.Lock()
	w.registered[path] = knownPlugin{appearance, info.GetName(), endpoint}
	w.mu.Unlock()
	if err = w.run.connect(info.GetName(), endpoint); err != nil {
		w.unregister(path)
		return w.notify(plugin, fmt.Errorf("plugin registration failed with err: %w", err))
	}
	if err = w.notify(plugin, nil); err != nil {
		w.unregister(path)
		w.run.m.deregister(info.GetName(), endpoint)
	}
	return err
}

func (w *pluginWatcher) unregister(path string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.registered, path)
}

// notify tells the plugin of the outcome, which it returns.
func (w *pluginWatcher) notify(plugin registration.RegistrationClient, outcome error) error {
	ctx, cancel := context.WithTimeout(w.run.ctx, 5*time.Second)
	defer cancel()
	word := &registration.RegistrationStatus{PluginRegistered: outcome == nil}
	if outcome != nil {
		word.Error = "RegisterPlugin error -- " + outcome.Error()
	}
	_, err := plugin.NotifyRegistrationStatus(ctx, word)
	return errors.Join(outcome, err)
}

// deregister ends the client of a socket that vanished.
func (m *DeviceManager) deregister(name, socket string) { m.disconnect(name, socket) }
