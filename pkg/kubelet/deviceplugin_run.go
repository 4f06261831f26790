package kubelet

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// pluginRun keeps a plugin registered. One goroutine looks at the node again
// and again, and does what is missing; events only say when to look.
type pluginRun struct {
	p    *DevicePlugin
	pace pace
	wake chan struct{}

	watch     *Watch
	unwatched string // why events do not tell of changes now
	sweep     tries

	watcherPath string // of the socket for kubelet's plugin watcher
	watched     bool   // its directory is there
	watchedFrom time.Time
	watcher     *door
	yielded     bool  // another living agent has the socket
	reopen      tries // of what failed
	renew       tries // of a socket that kubelet does not come to

	registerDir string
	register    *door // known to one kubelet by one call of Register
	with        identity
	try         tries
	fallback    bool // kubelet's plugin watcher does not come

	kubelet     identity // of its Register socket
	kubeletFrom time.Time

	closing sync.WaitGroup
}

func newPluginRun(p *DevicePlugin) (*pluginRun, error) {
	if p.Allocate == nil || p.Log == nil {
		return nil, network.Invalid.Errorf("resource %s: a device plugin needs Allocate and Log", p.Resource)
	}
	if err := validateResource(p.Resource); err != nil {
		return nil, err
	}
	if !filepath.IsAbs(p.KubeletDir) {
		return nil, network.Invalid.Errorf("kubelet's directory %q: want an absolute path", p.KubeletDir)
	}
	r := &pluginRun{p: p, pace: onNode(), wake: make(chan struct{}, 1), registerDir: filepath.Join(p.KubeletDir, registerDir)}
	if p.pace != nil {
		r.pace = *p.pace
	}
	dir := filepath.Join(p.KubeletDir, watcherDir)
	name, err := socketName(dir, p.Resource, "")
	if err != nil {
		return nil, err
	}
	if _, err = socketName(r.registerDir, p.Resource, newTag()); err != nil {
		return nil, err
	}
	r.watcherPath = filepath.Join(dir, name)
	if r.watch = p.Watch; r.watch == nil {
		r.watch = NewWatch(p.KubeletDir)
	}
	return r, nil
}

// loop looks until ctx ends.
func (r *pluginRun) loop(ctx context.Context) {
	for ctx.Err() == nil {
		timer := time.NewTimer(r.look(ctx))
		select {
		case <-ctx.Done():
		case <-r.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// stop ends all sockets. Kubelet sees its streams end.
func (r *pluginRun) stop() {
	r.shut(&r.watcher)
	r.shut(&r.register)
	r.closing.Wait()
	if err := r.watch.leave(r.wake); err != nil {
		r.p.Log.Warn("the watch of kubelet's directories does not end well", "error", err.Error())
	}
}

// shut closes a door, and returns before that is done.
func (r *pluginRun) shut(of **door) {
	d := *of
	if d == nil {
		return
	}
	*of = nil
	r.closing.Go(func() {
		if err := d.close(); err != nil {
			r.p.Log.Warn("a socket of the device plugin does not end well", "socket", d.socket.path, "error", err.Error())
		}
	})
}

// moment is what a look goes by.
type moment struct {
	now    time.Time
	status PluginStatus
	info   time.Time // as in DevicePlugin
	silent time.Time
}

// mute reports whether there has been no stream for d.
func (m moment) mute(d time.Duration) bool {
	return m.status.Streams == 0 && m.now.Sub(m.silent) >= d
}

// look does what is to be done now, and returns how long it is enough to wait
// for events then.
func (r *pluginRun) look(ctx context.Context) time.Duration {
	r.lookDirs()
	m := r.p.moment()
	r.lookKubelet(m)
	if m.status.Streams > 0 {
		r.renew.reset()
	}
	r.lookWatcher(m)
	if r.wantsRegister(m) {
		r.lookRegister(ctx, m)
	} else {
		r.shut(&r.register)
	}
	if m.status.Streams == 0 || r.yielded || r.unwatched != "" || r.reopen.wait > 0 || r.try.wait > 0 {
		return r.pace.tick
	}
	return r.pace.poll
}

func (p *DevicePlugin) moment() moment {
	p.mu.Lock()
	defer p.mu.Unlock()
	return moment{now: time.Now(), status: p.status, info: p.info, silent: p.silent}
}

// lookDirs watches the directories, and cleans them now and then.
func (r *pluginRun) lookDirs() {
	reason := ""
	if err := r.watch.follow(r.wake); err != nil {
		reason = err.Error()
	}
	if reason != "" && reason != r.unwatched {
		r.p.Log.Warn("changes are seen late", "resource", r.p.Resource, "error", reason)
	}
	r.unwatched = reason
	now := time.Now()
	if !r.sweep.due(now) {
		return
	}
	r.sweep.tried(now, 2*youngest, time.Hour)
	for _, dir := range []string{filepath.Dir(r.watcherPath), r.registerDir} {
		if err := sweep(dir, newPrefix, socketPrefix); err != nil {
			r.p.Log.Warn("old sockets stay", "resource", r.p.Resource, "error", err.Error())
		}
	}
}

// identity tells one socket file from the next of its name, even with the
// same inode.
type identity struct {
	device, inode uint64
	made          unix.Timespec
}

func identify(path string) identity {
	var stat unix.Stat_t
	if err := unix.Lstat(path, &stat); err != nil || stat.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return identity{}
	}
	return identity{device: stat.Dev, inode: stat.Ino, made: stat.Mtim}
}

func (r *pluginRun) kubeletSocket() string { return filepath.Join(r.registerDir, registerAt) }

// lookKubelet notices another kubelet.
func (r *pluginRun) lookKubelet(m moment) {
	if now := identify(r.kubeletSocket()); now != r.kubelet {
		r.kubelet, r.kubeletFrom = now, m.now
		r.try.reset()
		r.renew.reset()
	}
}

// lookWatcher keeps the socket for kubelet's plugin watcher.
func (r *pluginRun) lookWatcher(m moment) {
	dir := filepath.Dir(r.watcherPath)
	info, err := os.Stat(dir)
	if err != nil || !info.IsDir() {
		r.watched, r.yielded = false, false
		r.shut(&r.watcher)
		return
	}
	if !r.watched {
		r.watched, r.watchedFrom = true, m.now
		r.fallback = r.register != nil // until the watcher has come
	}
	mine := r.watcher != nil && r.watcher.socket.mine()
	r.yielded = r.watcher != nil && !mine && !dead(r.watcherPath)
	switch {
	case r.yielded:
		r.p.failed(network.Again.Errorf("another agent serves resource %s on %s: this one waits until it ends; look for two agents on this node", r.p.Resource, r.watcherPath))
		return
	case mine && !r.overlooked(m), !r.reopen.due(m.now):
		return
	}
	d, err := r.p.openDoor(r.watcherPath, ByWatcher)
	if err != nil {
		r.reopen.tried(m.now, r.pace.tick, r.pace.slowest)
		r.p.failed(err)
		return
	}
	r.reopen.reset()
	r.shut(&r.watcher)
	r.watcher = d
}

// overlooked reports whether kubelet is there and does not come to the socket.
// It takes a list only from a socket that is new to it: when a stream broke
// off, or an event was lost, it never comes again by itself.
func (r *pluginRun) overlooked(m moment) bool {
	if !m.mute(r.pace.lost) || m.now.Sub(latest(m.info, r.kubeletFrom, r.watcher.opened)) < r.pace.lost || !r.renew.due(m.now) {
		return false
	}
	if r.kubelet != (identity{}) && dead(r.kubeletSocket()) {
		return false
	}
	r.renew.tried(m.now, r.pace.lost, r.pace.slowest)
	return true
}

func latest(of ...time.Time) time.Time {
	var last time.Time
	for _, t := range of {
		if t.After(last) {
			last = t
		}
	}
	return last
}

// wantsRegister reports whether kubelet is to be called by Register: it has no
// plugin watcher, or that does not come.
func (r *pluginRun) wantsRegister(m moment) bool {
	switch {
	case !r.watched:
		// A kubelet that starts makes the watcher's directory a moment later.
		return r.with == r.kubelet || m.now.Sub(r.kubeletFrom) >= r.pace.begins
	case r.yielded:
		return false
	case m.status.Registered == ByWatcher:
		r.fallback = false
		return false
	case r.fallback && r.register != nil && r.with == r.kubelet:
		return true
	case m.status.Streams > 0 || r.kubelet == (identity{}):
		return false // the watcher is about to say so, or there is no kubelet
	}
	patience := r.pace.patience
	if r.fallback {
		patience = r.pace.settle
	}
	if m.now.Sub(latest(m.info, m.silent, r.kubeletFrom, r.watchedFrom)) < patience {
		return false
	}
	if !r.fallback && dead(r.kubeletSocket()) {
		return false
	}
	if !r.fallback {
		r.p.Log.Warn(fmt.Sprintf("kubelet's plugin watcher does not come to %s, Register is tried: look whether kubelet's directory %s is mounted here",
			r.watcherPath, filepath.Dir(r.watcherPath)), "resource", r.p.Resource)
	}
	r.fallback = true
	return true
}
