package multiplexer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/journal"
)

// How long a call works on other containers' leftovers, after its own work.
const (
	leftoverBudget       = 5 * time.Second
	statusLeftoverBudget = time.Second
)

// The orders under which leftovers are released. STATUS has so little time
// that a try which it cuts short says nothing about the next.
const (
	byLeftover = "leftover"
	byStatus   = "leftover, by STATUS"
	byHand     = "by hand" // of somebody who does not want to wait for the backoff
)

// releaseLeftovers tries again what could not be released before, and what
// somebody marked. It never waits for a lock, and its errors change nothing
// in the call's own answer.
func (c *call) releaseLeftovers(ctx context.Context, order string) {
	budget := leftoverBudget
	if order == byStatus {
		budget = statusLeftoverBudget
	}
	for _, err := range c.releaseMarked(ctx, order, budget) {
		c.log.Warn("a leftover cannot be released yet", "error", err.Error())
	}
}

func (c *call) releaseMarked(ctx context.Context, order string, budget time.Duration) (failed []error) {
	marked, err := c.store.ToRelease()
	if err != nil {
		return []error{err}
	}
	if len(marked) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	for _, container := range marked {
		if ctx.Err() != nil {
			return failed
		}
		if container == c.args.ContainerID {
			continue
		}
		if err = c.releaseLeftover(ctx, container, order); err != nil {
			failed = append(failed, fmt.Errorf("container %s: %w", container, err))
		}
	}
	return failed
}

func (c *call) releaseLeftover(ctx context.Context, container, order string) error {
	entry, err := c.store.Try(ctx, container)
	switch {
	case errors.Is(err, journal.ErrAbsent):
		return c.store.Unmark(container)
	case errors.Is(err, journal.ErrBusy):
		return nil
	case err != nil:
		return err
	}
	defer entry.Close()
	if !entry.Usable() || entry.Hides() {
		return nil // its DEL will come, which knows the pod
	}
	if entry.Interrupted && order == byStatus {
		return nil // a try was cut short: this call has no more time than that one
	}
	ordered := entry.Releasing != "" || entry.Detaching != ""
	if ordered && order != byHand && c.tooSoon(entry) {
		return nil
	}
	if entry.Releasing != "" {
		return c.release(ctx, entry, order, "")
	}
	if entry.Header.Boot == "" {
		return nil // whether it lives cannot be told; its DEL will come
	}
	if netns := entry.Header.Live(c.boot, ""); netns != "" {
		return c.releaseNetworks(ctx, entry, order, netns)
	}
	return c.release(ctx, entry, order, "")
}

// tooSoon reports whether the pause after the last failure goes on. A failure
// in the future: the clock was set back.
func (c *call) tooSoon(entry *journal.Entry) bool {
	now := c.plugin.Now()
	return now.After(entry.LastFailure) && now.Before(entry.LastFailure.Add(backoff(entry.Failures)))
}

// backoff is the pause after so many failures: 2 s, doubled up to 5 minutes.
func backoff(failures int) time.Duration {
	return min(time.Second<<min(failures, 20), 5*time.Minute)
}
