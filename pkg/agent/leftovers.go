package agent

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/journal"
	"github.com/multiplexer-cni/multiplexer/pkg/podns"
)

// watchJournals looks at the journals at start, every so often and when a
// pod went away: it publishes what is not shown yet, counts, and names what
// seems to be left over.
func (a *Agent) watchJournals(ctx context.Context) error {
	tick := time.NewTicker(a.Sweep)
	defer tick.Stop()
	poke(a.look)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.look:
		case <-tick.C:
		}
		if a.cluster.Synced() != nil {
			select { // readiness says why
			case <-ctx.Done():
				return nil
			case <-time.After(settle):
				poke(a.look)
			}
			continue
		}
		if err := a.lookAtJournals(); err != nil {
			a.Log.Warn("the journals cannot be looked at", "error", err.Error())
		}
		if err := a.reachable(); err != nil {
			return err
		}
	}
}

// lookAtJournals is one look.
func (a *Agent) lookAtJournals() error {
	poke(a.word.changed) // whatever became of the file meanwhile
	known := a.publisher.containers()
	journals, err := a.readJournals()
	if err != nil {
		return err
	}
	marked, err := a.store.ToRelease()
	if err != nil {
		return err
	}
	left, err := a.leftovers(journals)
	if err != nil {
		return err
	}
	for _, container := range left {
		if slices.Contains(marked, container) {
			continue
		}
		a.Log.Info("seems to be left over: the plugin makes sure and releases it", "container", container)
		if err = a.store.Mark(container); err != nil {
			return err
		}
		marked = append(marked, container)
	}
	a.metrics.count(journals, len(marked))
	a.publisher.forget(known, journals)
	for _, container := range a.newest(journals) {
		a.publisher.later.Add(container)
	}
	return nil
}

func (a *Agent) readJournals() (map[string]*journal.Contents, error) {
	containers, err := a.store.Containers()
	if err != nil {
		return nil, err
	}
	journals := map[string]*journal.Contents{}
	for _, container := range containers {
		contents, readErr := a.store.Peek(container)
		switch {
		case errors.Is(readErr, journal.ErrAbsent): // released since
		case readErr != nil:
			a.Log.Warn("a journal cannot be read", "container", container, "error", readErr.Error())
		default:
			journals[container] = contents
		}
	}
	return journals, nil
}

// newest are the containers whose pods are to have a status, of each pod the
// newest one. Those that have it are found out when it comes to publishing.
func (a *Agent) newest(journals map[string]*journal.Contents) []string {
	byPod := map[string]string{}
	for container, c := range journals {
		if !a.wanted(c) {
			continue
		}
		key := c.Header.Pod + "/" + c.Header.UID
		if other, ok := byPod[key]; !ok || journals[other].Opened.Before(c.Opened) {
			byPod[key] = container
		}
	}
	var out []string
	for _, container := range byPod {
		namespace, name := journals[container].Pod()
		if _, ok := a.cluster.CachedPod(namespace, name, journals[container].Header.UID); ok {
			out = append(out, container)
		}
	}
	return out
}

// young is how old a journal must be to count as left over: its ADD may not
// have shown its namespace to us yet.
const young = time.Minute

// leftovers names the containers whose namespaces are gone: those of another
// boot, and those that a view of the namespaces which proves to be the
// host's does not show. A pod that is missing at the API server says nothing.
func (a *Agent) leftovers(journals map[string]*journal.Contents) ([]string, error) {
	boot, err := podns.BootID(a.BootIDPath)
	if err != nil {
		return nil, err
	}
	proven := a.viewProven(journals, boot)
	var out []string
	for container, c := range journals {
		// A journal from the future: the clock was set back.
		if age := a.Now().Sub(c.Opened); c.Header.Boot == "" || age >= 0 && age < young {
			continue
		}
		seen, judged := a.sees(c)
		if c.Header.Boot != boot || proven && judged && !seen {
			out = append(out, container)
		}
	}
	slices.Sort(out)
	return out, nil
}

// viewProven reports whether our view of the pods' namespaces is the host's,
// and not one of another directory or another time: it shows the namespace
// of the youngest of the pods that are known to live.
func (a *Agent) viewProven(journals map[string]*journal.Contents, boot string) bool {
	var youngest *journal.Contents
	for _, c := range journals {
		namespace, name := c.Pod()
		if _, lives := a.cluster.CachedPod(namespace, name, c.Header.UID); !lives || !c.Complete || c.Releasing != "" || c.Header.Boot != boot {
			continue
		}
		if _, judged := a.sees(c); judged && (youngest == nil || c.Opened.After(youngest.Opened)) {
			youngest = c
		}
	}
	if youngest == nil {
		return false
	}
	seen, _ := a.sees(youngest)
	return seen
}

// sees reports whether a journal's namespace is in our view, and whether our
// view is of the directory that it is in.
func (a *Agent) sees(c *journal.Contents) (seen, judged bool) {
	if dir := filepath.Dir(c.Header.Netns); dir != "/run/netns" && dir != "/var/run/netns" && dir != a.NetnsDir {
		return false, false
	}
	_, err := os.Lstat(filepath.Join(a.NetnsDir, filepath.Base(c.Header.Netns)))
	return err == nil, err == nil || errors.Is(err, fs.ErrNotExist)
}
