package routing

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// Guard watches over a pod's namespace while its networks are attached.
type Guard struct {
	pod    *Pod
	before *State
	quiet  []Sysctl
	record func(*Plan) error
}

// Begin notes what the pod has with the cluster network alone, and keeps
// the NICs that come now from believing any router. `record` makes a plan
// outlive this process before it takes effect: Undo needs it.
func Begin(netns string, record func(*Plan) error) (*Guard, error) {
	pod, err := OpenPod(netns)
	if err != nil {
		return nil, err
	}
	g := &Guard{pod: pod, record: record}
	if err = g.begin(); err != nil {
		pod.Close()
		return nil, fmt.Errorf("routing: %w", err)
	}
	return g, nil
}

func (g *Guard) begin() error {
	var err error
	if g.before, err = g.pod.State(); err != nil {
		return err
	}
	now, err := g.pod.readSysctls([]string{"ipv6/conf/default/accept_ra", "ipv6/conf/default/autoconf"})
	if err != nil {
		return err
	}
	for key, value := range now {
		if value != "0" {
			g.quiet = append(g.quiet, Sysctl{Key: key, Want: "0", Had: value})
		}
	}
	if len(g.quiet) == 0 {
		return nil
	}
	if err = g.record(&Plan{Quiet: g.quiet}); err != nil {
		return err
	}
	return g.pod.writeSysctls(g.quiet)
}

// Close ends the watch. Without a Guard there is none.
func (g *Guard) Close() {
	if g != nil {
		g.pod.Close()
	}
}

// Finish decides who carries what, sets it, and reads it back. `in` lacks the
// states and the sysctls. Errors are of kind Invalid where the pod or the
// configuration asks for what cannot be.
func (g *Guard) Finish(in Input) (*Plan, error) {
	if err := g.pod.restoreSysctls(g.quiet); err != nil {
		return nil, fmt.Errorf("routing: %w", err)
	}
	var err error
	in.Before = g.before
	if in.After, err = g.pod.State(); err != nil {
		return nil, fmt.Errorf("routing: %w", err)
	}
	if in.Sysctls, err = g.pod.readSysctls(sysctlKeys(in.After)); err != nil {
		return nil, fmt.Errorf("routing: %w", err)
	}
	// What comes meanwhile is taken in: an address, or a route that the
	// kernel did not show before (its dump leaves out what stands between the
	// next hops of an IPv6 route).
	now := in.After
	for try := 1; ; try++ {
		plan, have, setErr := g.set(in, now)
		if setErr != nil {
			return nil, fmt.Errorf("routing: %w", setErr)
		}
		settled := plan.rulesAll(have)
		if err = g.pod.readBack(plan, have); err != nil { // R7
			settled = false
		}
		switch {
		case settled:
			return plan, nil
		case try == 3 && err != nil:
			return nil, network.IO.Errorf("routing: the kernel does not hold what was set: %w", err)
		case try == 3:
			return plan, nil // later addresses are the pod's own affair
		}
		in.After.Addresses = have.Addresses
		own := keysOf(plan.Added)
		in.After.Routes = append(in.After.Routes, slices.DeleteFunc(in.After.newIn(have), func(r Route) bool { return own[r.key()] })...)
		now = have
	}
}

// set makes a plan true, from what the kernel holds now, and returns what it
// holds then.
func (g *Guard) set(in Input, now *State) (*Plan, *State, error) {
	plan, err := Decide(in)
	if err != nil {
		return nil, nil, err
	}
	plan.Quiet = g.quiet
	if err = g.record(plan); err != nil {
		return nil, nil, err
	}
	if err = g.pod.apply(plan, now); err != nil {
		return nil, nil, err
	}
	if err = g.pod.writeSysctls(plan.Sysctls); err != nil {
		return nil, nil, err
	}
	have, err := g.pod.State()
	return plan, have, err
}

// Undo takes away what a plan set in the namespace and gives the cluster
// network its default routes back. What is gone already is no error.
func Undo(netns string, plan *Plan) error {
	pod, err := OpenPod(netns)
	if errors.Is(err, fs.ErrNotExist) { // it went since somebody looked
		return nil
	}
	if err != nil {
		return err
	}
	defer pod.Close()
	if err = pod.undo(plan); err != nil {
		return fmt.Errorf("undo routing: %w", err)
	}
	return nil
}

func (p *Pod) undo(plan *Plan) error {
	have, err := p.State()
	if err != nil {
		return err
	}
	back := undoing(plan, have)
	err = errors.Join(
		applyRoutes(p, back, have), applyRules(p, nil, have.Rules), removeFromMain(p, back.Removed, have), p.giveBack(back.Added, have))
	sysctls := p.restoreSysctls(append(plan.Sysctls, plan.Quiet...))
	if errors.Is(sysctls, fs.ErrNotExist) { // the namespace went meanwhile, and they with it
		return err
	}
	return errors.Join(err, sysctls)
}

// giveBack restores the cluster network's routes. One that its NIC cannot
// take any more, since somebody set it down or took its addresses, went with
// what it needs.
func (p *Pod) giveBack(routes []Route, have *State) error {
	err := addMissing(p, routes, have)
	for _, gone := range []error{unix.ENETUNREACH, unix.EHOSTUNREACH, unix.ENETDOWN, unix.ENODEV, unix.EINVAL} {
		if errors.Is(err, gone) {
			return nil
		}
	}
	return err
}

// undoing is the plan that takes another back, as far as its NICs are there.
func undoing(plan *Plan, have *State) *Plan {
	back := &Plan{}
	there := func(dev string) bool { return have.link(dev) != nil }
	for _, r := range plan.Added {
		if r.Dst.IsValid() && r.everyDev(there) && !r.everyDev(plan.ofCluster) {
			back.Removed = append(back.Removed, r)
		}
	}
	for _, r := range plan.Removed {
		if r.Dst.IsValid() && r.everyDev(there) && r.everyDev(plan.ofCluster) {
			back.Added = append(back.Added, r)
		}
	}
	return back
}
