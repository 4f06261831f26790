package multiplexer

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/containernetworking/cni/pkg/skel"

	"github.com/multiplexer-cni/multiplexer/pkg/journal"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/plan"
)

// uninstalling refuses a pod that only multiplexer could detach again, while
// it is being taken off the node (docs/adr/0017). It comes after the journal
// was begun: whoever wrote the file and then reads the journals sees the pod.
func (c *call) uninstalling(ctx context.Context, pod plan.Pod) error {
	file, there, err := c.marker()
	if err != nil || !there {
		return err
	}
	if !network.ReplacesCluster(pod.Annotations) {
		more, moreErr := c.planner.HasMore(ctx, pod)
		if moreErr != nil || !more {
			return moreErr
		}
	}
	return network.Again.Errorf("pod %s asks for more than the cluster network, and multiplexer is being uninstalled from this node (%s): let another node have the pod, or run multiplexerd install here to keep multiplexer", pod, file)
}

// marker is the file that says so, and whether it is there.
func (c *call) marker() (file string, there bool, err error) {
	file = filepath.Join(c.config.StateDir, network.UninstallingFile)
	_, err = os.Lstat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return file, false, nil
	}
	if err != nil {
		return file, false, network.IO.Errorf("see whether multiplexer is being uninstalled: %w", err)
	}
	return file, true, nil
}

// releaseNetworks takes away what a living container has beside the cluster
// network, if that was ordered: uninstall --force. A mark without an order was
// a wrong suspicion, and an order ends with its uninstall, which an install
// calls off. The journal goes on, and DEL releases the cluster network.
func (c *call) releaseNetworks(ctx context.Context, entry *journal.Entry, order, netns string) error {
	ordered, err := c.store.NetworksMarked(entry.Header.Container)
	if err != nil {
		return err
	}
	_, standing, err := c.marker()
	if err != nil {
		return err
	}
	if entry.Detaching == "" && (!ordered || !standing) {
		return entry.Unmark()
	}
	if err = entry.AwaitOrphan(ctx, orphanPatience); err != nil {
		return err
	}
	c.note(entry.Detach(order))
	var failed []error
	if entry.Routing != nil {
		if err = c.unroute(entry, netns); err != nil {
			failed = append(failed, err)
		} else {
			c.note(entry.SetRouting(nil))
		}
	}
	var networks []int
	for i := range slices.Backward(entry.Records) {
		if entry.Records[i].Network() {
			networks = append(networks, i)
		}
	}
	if failed = append(failed, c.detachEach(ctx, entry, order, netns, networks)...); len(failed) > 0 {
		return errors.Join(failed...)
	}
	c.log.Info("the networks are detached, the cluster network stays", "of", entry.Header.Container, "pod", entry.Header.Pod)
	return entry.Unmark()
}

// Release does at once, and with more time, what is marked for release, and
// says what it could not do. It is no verb of CNI: `multiplexerd uninstall`
// calls the plugin so.
func (p *Plugin) Release(ctx context.Context, args *skel.CmdArgs) error {
	return presentable(p.serve(args, forgiving, func(c *call) error {
		return errors.Join(c.releaseMarked(ctx, byHand, releaseBudget)...)
	}))
}

// releaseBudget bounds Release.
const releaseBudget = time.Minute
