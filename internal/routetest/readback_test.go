package routetest

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// ADD reads the kernel back: what somebody took away while it was set is an
// error that names it, and the pod gets nothing. A thief may come too late, so
// several pods are robbed.
func TestADDReadsBack(t *testing.T) {
	overShapes(t, func(t *testing.T, w *world) {
		const tries = 20
		for range tries {
			p := w.newPod(t, "red")
			before := p.inside(t)
			stop := p.steal(t)
			e := p.call(t, "ADD").Error()
			stop()
			if e == nil {
				p.del(t)
				continue
			}
			if !strings.Contains(e.Msg, "rule") || !strings.Contains(e.Msg, "30100") {
				t.Errorf("the error does not name the rule: %s", e.Msg)
			}
			nettest.RequireSame(t, before, p.inside(t))
			return
		}
		t.Errorf("%d times a rule was gone before ADD ended, and it succeeded", tries)
	})
}

// steal takes rules for ranges away from the pod as soon as they are there.
func (p *pod) steal(t *testing.T) (stop func()) {
	t.Helper()
	h := handle(t, p.ns)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		var err error
		for ctx.Err() == nil && err == nil {
			err = stealOnce(h)
		}
		ended <- err
	}()
	return func() {
		cancel()
		must(t, <-ended)
	}
}

func stealOnce(h *netlink.Handle) error {
	rules, err := h.RuleList(netlink.FAMILY_V6)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return err
	}
	for _, rule := range rules {
		if rule.Priority != 30100 {
			continue
		}
		// Who was first does not matter.
		if err = h.RuleDel(&rule); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return nil
}
