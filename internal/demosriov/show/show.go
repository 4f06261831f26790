// Package show is the demo on real VFs, step by step: the pod of the article
// that this project began with, on a machine with two PFs that is its own.
package show

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// Options say where things are.
type Options struct {
	Root    string // of the repository
	Bin     string // multiplexer
	Agent   string // multiplexerd
	Plugins string // the reference CNI plugins' directory
}

// show is what the steps share.
type show struct {
	Options
	out  io.Writer
	step int

	node    *nettest.Node
	pfs     []*sriov.PF
	runtime *containerRuntime
	undo    []func() error

	front, back, visitor *pod
	changed              string // PCI address of the VF that a pod changes
	before               string // what there was before the pods
}

// Run shows everything, and fails if any proof does. In the end the machine
// is as it was, but for VFs and the cluster network's bridge.
func Run(ctx context.Context, out io.Writer, o Options) (err error) {
	s := &show{Options: o, out: out}
	defer func() {
		for len(s.undo) > 0 {
			last := len(s.undo) - 1
			err = errors.Join(err, s.undo[last]())
			s.undo = s.undo[:last]
		}
	}()
	start := time.Now()
	s.say("multiplexer demo with SR-IOV: a pod with one cluster network and two VFs on two physical networks.")
	s.say("Packets prove which NIC carries what; then all is removed, and every VF comes home.")
	s.say("The processor is emulated too, so all takes longer than on a real machine.")
	for _, step := range []func(context.Context) error{
		s.prepare, s.networks, s.add, s.nics, s.vfsInPods, s.prove, s.vlans, s.rename, s.remove,
	} {
		if err = step(ctx); err != nil {
			return err
		}
	}
	s.say("\nDone in %.0f s.", time.Since(start).Seconds())
	return nil
}

func (s *show) say(format string, args ...any) { _, _ = fmt.Fprintf(s.out, format+"\n", args...) }

func (s *show) heading(format string, args ...any) {
	s.step++
	s.say("\n%d. %s\n", s.step, fmt.Sprintf(format, args...))
}

// eventually tries for a minute: emulated cards take their time.
func eventually(ctx context.Context, try func() error) error {
	var err error
	for end := time.Now().Add(time.Minute); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
		if err = try(); err == nil {
			return nil
		}
	}
	return errors.Join(err, ctx.Err())
}
