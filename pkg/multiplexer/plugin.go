package multiplexer

import (
	"context"
	"io"
	"time"

	"github.com/containernetworking/cni/pkg/skel"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// Plugin answers CNI calls. Its fields are what a process has of its own;
// the rest comes with each call.
type Plugin struct {
	Embedded   map[string]network.Embedded // plugin types that can run in process
	Stdout     io.Writer                   // gets the result
	Stderr     io.Writer                   // gets the log and what delegates print there
	Self       string                      // path of our own executable
	BootIDPath string                      // /proc/sys/kernel/random/boot_id
	Now        func() time.Time
	// DeviceInfoDir holds the files of device-info-spec 1.1.0; "" = there are none.
	DeviceInfoDir string
}

// orphanPatience is how long a delegate of a killed call may go on before it
// is killed too.
const orphanPatience = 10 * time.Second

// Add attaches a pod: cluster network first, then what its annotation asks
// for, and prints the merged result. What fails is undone before it returns.
func (p *Plugin) Add(ctx context.Context, args *skel.CmdArgs) error {
	return p.serve(args, strict, func(c *call) error { return c.add(ctx) })
}

// Del detaches a pod. It needs nothing but the journal, and succeeds when
// there is nothing to do.
func (p *Plugin) Del(ctx context.Context, args *skel.CmdArgs) error {
	return presentable(p.serve(args, forgiving, func(c *call) error {
		within, cancel := context.WithTimeout(ctx, c.config.DelTimeout)
		defer cancel()
		err := c.del(within)
		c.releaseLeftovers(within, byLeftover)
		return err
	}))
}

// Check compares the pod with what ADD left, and asks the delegates.
func (p *Plugin) Check(ctx context.Context, args *skel.CmdArgs) error {
	return p.serve(args, strict, func(c *call) error {
		within, cancel := context.WithTimeout(ctx, c.config.DelTimeout)
		defer cancel()
		return c.check(within)
	})
}

// GC releases what belongs to no container that the runtime still has.
func (p *Plugin) GC(ctx context.Context, args *skel.CmdArgs) error {
	return p.serve(args, strict, func(c *call) error {
		within, cancel := context.WithTimeout(ctx, gcBudget)
		defer cancel()
		err := c.gc(within)
		c.releaseLeftovers(within, byLeftover)
		return err
	})
}

// Status says whether an ADD can be served: the cluster network's word and
// the default networks', nobody else's.
func (p *Plugin) Status(ctx context.Context, args *skel.CmdArgs) error {
	return p.serve(args, strict, func(c *call) error {
		err := c.status(ctx)
		c.releaseLeftovers(ctx, byStatus)
		return err
	})
}

// serve reads a call's configuration and arguments, runs the verb, and gives
// its error the form that CNI prints.
func (p *Plugin) serve(args *skel.CmdArgs, how strictness, verb func(*call) error) error {
	c, err := p.start(args, how)
	if err != nil {
		return cniError(err)
	}
	defer c.close()
	if err = verb(c); err == nil {
		return nil
	}
	if c.logFile != nil {
		c.log.Error("failed", "error", err.Error())
	}
	return cniError(err)
}
