package multiplexer

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/containernetworking/cni/pkg/ns"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/multiplexer-cni/multiplexer/pkg/delegate"
	"github.com/multiplexer-cni/multiplexer/pkg/journal"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/plan"
	"github.com/multiplexer-cni/multiplexer/pkg/podns"
)

// add is ADD. Work stops in time to leave timeout.del for undoing it.
func (c *call) add(ctx context.Context) error {
	for _, w := range network.Warnings(c.args.StdinData) {
		c.log.Warn(w)
	}
	working, cancel := context.WithTimeout(ctx, c.config.AddTimeout-c.config.DelTimeout)
	defer cancel()
	whole, end := context.WithTimeout(context.WithoutCancel(ctx), c.config.AddTimeout)
	defer end()

	header, pod, err := c.header()
	if err != nil {
		return err
	}
	if err = c.complete(working, &pod); err != nil {
		return err
	}
	entry, err := c.fresh(working)
	if err != nil {
		return err
	}
	defer entry.Close()
	if err = entry.Begin(header); err != nil {
		return errors.Join(err, entry.Remove())
	}
	result, err := c.attachAll(working, entry, pod)
	if err == nil {
		err = entry.Ready()
	}
	if err == nil {
		c.publish(working)
		err = c.print(result)
	}
	if err != nil {
		err = c.undo(ctx, entry, err)
		c.tell(whole, pod, err)
		return err
	}
	return nil
}

// header checks that the call can be served, and describes the container.
func (c *call) header() (journal.Header, plan.Pod, error) {
	var h journal.Header
	pod, err := c.pod()
	if err != nil {
		return h, pod, err
	}
	if own, err := ns.CheckNetNS(c.args.Netns); err != nil {
		return h, pod, err
	} else if own {
		return h, pod, network.BadNetns.Errorf("CNI_NETNS %s is the plugin's own network namespace, not a pod's", c.args.Netns)
	}
	cookie, err := podns.Cookie(c.args.Netns)
	if err != nil {
		return h, pod, network.BadNetns.Errorf("CNI_NETNS: %w", err)
	}
	h = journal.Header{
		Container: c.args.ContainerID, Network: c.config.Name, IfName: c.args.IfName, Netns: c.args.Netns, Cookie: cookie, Boot: c.boot,
		UID: pod.UID, Args: c.cniArgs, Chained: c.config.PrevResult != nil, PrevResult: c.config.PrevResult,
	}
	if pod.Name != "" {
		h.Pod = pod.String()
	}
	return h, pod, nil
}

// fresh returns an empty journal for the container. What an earlier ADD left
// is released first.
func (c *call) fresh(ctx context.Context) (*journal.Entry, error) {
	entry, err := c.store.Create(ctx, c.args.ContainerID)
	if err != nil {
		return nil, err
	}
	if entry.Usable() && !c.isOurs(entry) {
		return nil, errors.Join(network.Invalid.Errorf("container %s has networks by way of interface %q already, and asks for %q: multiplexer serves one interface of a container, with all the networks behind it",
			c.args.ContainerID, entry.Header.IfName, c.args.IfName), entry.Close())
	}
	if entry.Usable() {
		c.log.Info("releasing what an earlier ADD of this container left")
		releasing, cancel := context.WithTimeout(ctx, c.config.DelTimeout)
		err = c.release(releasing, entry, "ADD", c.args.Netns)
		cancel()
		if err = errors.Join(err, entry.Close()); err != nil {
			return nil, fmt.Errorf("the container has networks of an earlier ADD that cannot be released: %w", err)
		}
		if entry, err = c.store.Create(ctx, c.args.ContainerID); err != nil {
			return nil, err
		}
	}
	if err = entry.AwaitOrphan(ctx, orphanPatience); err != nil { // of a DEL that found no journal
		return nil, errors.Join(err, entry.Close())
	}
	if entry, err = c.withoutMultus(ctx, entry); err != nil {
		return nil, err
	}
	if entry.Damaged > 0 {
		c.log.Warn("the container's journal was damaged and is started anew", "lines", entry.Damaged)
	}
	return entry, nil
}

// isOurs reports whether a journal is about the interface that this call is
// about. The network's name may have changed since: the container is the same.
func (c *call) isOurs(entry *journal.Entry) bool {
	return entry.Header.IfName == "" || entry.Header.IfName == c.args.IfName
}

// attachAll attaches the cluster network, then the pod's own, and merges.
func (c *call) attachAll(ctx context.Context, entry *journal.Entry, pod plan.Pod) (*current.Result, error) {
	if err := c.uninstalling(ctx, pod); err != nil {
		return nil, err
	}
	cluster, err := c.clusterPart(ctx, entry, pod)
	if err != nil {
		return nil, err
	}
	inUse := network.PodInterfaces(cluster)
	if !slices.Contains(inUse, c.args.IfName) {
		inUse = append(inUse, c.args.IfName)
	}
	secondaries, err := c.planner.Secondaries(ctx, pod, c.cniArgs, inUse)
	if err != nil {
		return nil, err
	}
	if len(secondaries) == 0 {
		return cluster.Result, nil
	}
	if _, err = c.record(entry, secondaries...); err != nil {
		return nil, err
	}
	if err = entry.Sync(); err != nil {
		return nil, err
	}
	guard, err := c.watch(entry)
	if err != nil {
		return nil, err
	}
	defer guard.Close()
	parts, err := c.attachOthers(ctx, entry, cluster, inUse)
	if err != nil {
		return nil, err
	}
	if err = c.route(guard, entry, parts); err != nil {
		return nil, err
	}
	if c.config.Result == network.ResultCluster || oldResult(c.config.CNIVersion) {
		return parts[0].Result, nil
	}
	opts := network.MergeOptions{Netns: c.args.Netns, IfName: c.args.IfName, Runtime: cmp.Or(c.config.Runtime, c.agent.facts().Runtime)}
	return network.Merge(parts[0].Result, parts[1:], opts), nil
}

// attachOthers attaches, in order, what the journal plans and nobody has
// attempted. It returns their parts behind the cluster network's.
func (c *call) attachOthers(ctx context.Context, entry *journal.Entry, cluster network.Part, inUse []string) ([]network.Part, error) {
	parts := []network.Part{cluster}
	for i := range entry.Records {
		if entry.Records[i].Step != journal.Planned {
			continue
		}
		part, err := c.attach(ctx, entry, i)
		if err != nil {
			return nil, err
		}
		if err = newNames(entry, i, part, inUse); err != nil {
			return nil, err
		}
		inUse = append(inUse, network.PodInterfaces(part)...)
		parts = append(parts, part)
	}
	return parts, nil
}

// clusterPart attaches the cluster network, or takes over what a plugin
// before us in the chain did.
func (c *call) clusterPart(ctx context.Context, entry *journal.Entry, pod plan.Pod) (network.Part, error) {
	part := network.Part{IfName: c.args.IfName}
	if c.config.PrevResult != nil {
		if network.ReplacesCluster(pod.Annotations) {
			return part, network.Invalid.Errorf("pod %s: annotation %s asks for %q in place of the cluster network, which stands before multiplexer in the node's list and is attached already: remove the annotation, or give multiplexer the list's first place",
				pod, network.DefaultNetworkAnnotation, pod.Annotations[network.DefaultNetworkAnnotation])
		}
		var err error
		if part.Result, err = delegate.Decode(c.config.PrevResult); err != nil {
			return part, fmt.Errorf("prevResult: %w", err)
		}
		return part, nil
	}
	if err := c.clusterReady(ctx); err != nil {
		return part, err
	}
	attachment, err := c.planner.Cluster(ctx, pod, c.cniArgs, c.args.IfName)
	if err != nil {
		return part, err
	}
	i, err := c.record(entry, *attachment)
	if err != nil {
		return part, err
	}
	if network.ReplacesCluster(pod.Annotations) {
		// The journal alone says, after a power loss, that it is not the node's.
		if err = entry.Sync(); err != nil {
			return part, err
		}
	}
	return c.attach(ctx, entry, i)
}

// record writes a plan down, once all its plugins are known to be there.
func (c *call) record(entry *journal.Entry, attachments ...network.Attachment) (int, error) {
	for i := range attachments {
		if err := c.runner.Preflight(&attachments[i]); err != nil {
			return 0, err
		}
	}
	if err := c.nameDeviceInfo(attachments); err != nil {
		return 0, err
	}
	return entry.Plan(attachments...)
}

// attach runs one attachment's ADD, with a line in the journal before and
// after it.
func (c *call) attach(ctx context.Context, entry *journal.Entry, i int) (network.Part, error) {
	a := &entry.Records[i].Attachment
	part := network.Part{IfName: a.IfName}
	if err := ctx.Err(); err != nil {
		return part, network.Again.Errorf("attach %s: no time left (timeout.add %s, of which %s are kept for undoing)", a, c.config.AddTimeout, c.config.DelTimeout)
	}
	guard, err := entry.Guard()
	if err != nil {
		return part, err
	}
	defer guard.Close()
	if err = entry.Adding(i); err != nil {
		return part, err
	}
	if err = c.placeDeviceInfo(a); err != nil {
		return part, err
	}
	start := c.plugin.Now()
	result, err := c.runner.Add(ctx, a, delegate.Request{
		ContainerID: c.args.ContainerID, Netns: c.args.Netns, State: entry.State(i), Guard: guard,
	})
	if err != nil {
		return part, err
	}
	c.log.Info("attached", "network", a.Reference, "interface", a.IfName, "duration", c.plugin.Now().Sub(start))
	part.Result = result.Newest
	return part, entry.Added(i, result.Raw, c.foundDeviceInfo(a))
}

// newNames refuses an attachment whose result claims an interface that the
// pod had before: addresses would be credited to the wrong one.
func newNames(entry *journal.Entry, i int, part network.Part, inUse []string) error {
	for _, name := range network.PodInterfaces(part) {
		if slices.Contains(inUse, name) {
			return network.Invalid.Errorf("%s: its result names interface %q, which the pod has already", &entry.Records[i].Attachment, name)
		}
	}
	return nil
}

// undo releases what a failed ADD attached. It has its own time, also when
// the runtime has given up. The cause is what is reported.
func (c *call) undo(ctx context.Context, entry *journal.Entry, cause error) error {
	undoing, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.config.DelTimeout)
	defer cancel()
	if err := c.release(undoing, entry, "ADD", c.args.Netns); err != nil {
		return fmt.Errorf("%w; undoing it failed too, and is tried again by DEL and later calls: %s", cause, err.Error())
	}
	return cause
}

// clusterReady waits for readinessindicatorfile, as Multus does, but not for
// so long that the runtime stalls (NPWG 6.1.2).
func (c *call) clusterReady(ctx context.Context) error {
	for giveUp := time.Now().Add(5 * time.Second); ; {
		err := c.readyNow()
		if err == nil || ctx.Err() != nil || time.Now().After(giveUp) {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// readyNow reports whether readinessindicatorfile, if there is one, exists.
func (c *call) readyNow() error {
	file := c.config.ReadinessIndicatorFile
	if file == "" {
		return nil
	}
	if _, err := os.Stat(file); err != nil {
		return network.Again.Errorf("readinessindicatorfile %s does not exist: the cluster network is not ready yet", file)
	}
	return nil
}

// oldResult reports whether a version's result holds one address of each
// family and no interfaces: it can only tell of the cluster network.
func oldResult(v string) bool {
	newer, err := version.GreaterThanOrEqualTo(v, "0.3.0")
	return err == nil && !newer
}

// print writes the result at the version that the runtime asked for.
func (c *call) print(result *current.Result) error {
	out, err := result.GetAsVersion(c.config.CNIVersion)
	if err != nil {
		return network.Unsupported.Errorf("result: %w", err)
	}
	if newest, ok := out.(*current.Result); ok {
		err = json.NewEncoder(c.plugin.Stdout).Encode(printed{
			CNIVersion: newest.CNIVersion, Interfaces: newest.Interfaces, IPs: newest.IPs, Routes: newest.Routes, DNS: unlessEmpty(newest.DNS),
		})
	} else {
		err = out.PrintTo(c.plugin.Stdout)
	}
	if err != nil {
		return network.IO.Errorf("print the result: %w", err)
	}
	return nil
}

// printed is current.Result as it is printed. The library's own way encodes,
// decodes and encodes again, to leave out an empty dns.
type printed struct {
	CNIVersion string               `json:"cniVersion,omitempty"`
	Interfaces []*current.Interface `json:"interfaces,omitempty"`
	IPs        []*current.IPConfig  `json:"ips,omitempty"`
	Routes     []*types.Route       `json:"routes,omitempty"`
	DNS        *types.DNS           `json:"dns,omitempty"`
}

func unlessEmpty(d types.DNS) *types.DNS {
	if d.IsEmpty() {
		return nil
	}
	return &d
}
