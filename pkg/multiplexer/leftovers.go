package multiplexer

import (
	"context"
	"errors"
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
)

// releaseLeftovers tries again what could not be released before, and what
// somebody marked. It never waits for a lock, and its errors change nothing
// in the call's own answer.
func (c *call) releaseLeftovers(ctx context.Context, order string) {
	marked, err := c.store.ToRelease()
	if err != nil {
		c.log.Warn("leftovers", "error", err.Error())
	}
	if len(marked) == 0 {
		return
	}
	budget := leftoverBudget
	if order == byStatus {
		budget = statusLeftoverBudget
	}
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	for _, container := range marked {
		if ctx.Err() != nil {
			return
		}
		if container == c.args.ContainerID {
			continue
		}
		if err = c.releaseLeftover(ctx, container, order); err != nil {
			c.log.Warn("a leftover cannot be released yet", "leftover", container, "error", err.Error())
		}
	}
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
	switch {
	case !entry.Usable():
		return nil // its DEL will come
	case entry.Interrupted && order == byStatus:
		return nil // a try was cut short: this call has no more time than that one
	case entry.Releasing != "":
		now := c.plugin.Now()
		// A failure in the future: the clock was set back.
		if now.After(entry.LastFailure) && now.Before(entry.LastFailure.Add(backoff(entry.Failures))) {
			return nil
		}
	case entry.Header.Boot == "":
		return nil // whether it lives cannot be told; its DEL will come
	case entry.Header.Live(c.boot, "") != "":
		// The mark was wrong: the container's namespace is there.
		return c.store.Unmark(container)
	}
	return c.release(ctx, entry, order, "")
}

// backoff is the pause after so many failures: 2 s, doubled up to 5 minutes.
func backoff(failures int) time.Duration {
	return min(time.Second<<min(failures, 20), 5*time.Minute)
}
