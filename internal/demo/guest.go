package main

import (
	"context"
	"fmt"
	"time"

	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"
)

// guest is a pod of the show.
type guest struct {
	*sandbox
	*carriers                 // after ADD
	result    *current.Result // of ADD
	took      time.Duration   // by ADD
}

func newGuest(manifest *podManifest) (*guest, error) {
	pod, err := newSandbox(manifest.Metadata.Name, manifest)
	if err != nil {
		return nil, err
	}
	return &guest{sandbox: pod}, nil
}

// arrive is the runtime's ADD, and CHECK after it.
func (g *guest) arrive(ctx context.Context, runtime *containerRuntime) error {
	start := time.Now()
	var err error
	if g.result, err = runtime.add(ctx, g.sandbox); err != nil {
		return err
	}
	g.took = time.Since(start)
	if err = runtime.check(ctx, g.sandbox); err != nil {
		return err
	}
	g.carriers, err = readCarriers(g.sandbox)
	return err
}

// takeRules takes the routing rules away that ADD set.
func (g *guest) takeRules() (giveBack func() error, err error) {
	handle, err := g.Handle()
	if err != nil {
		return nil, err
	}
	all, err := handle.RuleList(netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("list rules: %w", err)
	}
	planned := map[int]bool{}
	for _, rule := range g.plan.Rules {
		planned[rule.Priority] = true
	}
	var taken []netlink.Rule
	for _, rule := range all {
		if !planned[rule.Priority] {
			continue
		}
		if err = handle.RuleDel(&rule); err != nil {
			return nil, fmt.Errorf("remove rule %s: %w", rule, err)
		}
		taken = append(taken, rule)
	}
	return func() error {
		for i := range taken {
			if backErr := handle.RuleAdd(&taken[i]); backErr != nil {
				return fmt.Errorf("add rule %s again: %w", taken[i], backErr)
			}
		}
		return nil
	}, nil
}
