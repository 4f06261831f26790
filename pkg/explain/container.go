package explain

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/multiplexer-cni/multiplexer/pkg/delegate"
	"github.com/multiplexer-cni/multiplexer/pkg/journal"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/podns"
	"github.com/multiplexer-cni/multiplexer/pkg/routing"
)

// delivered are the annotations that the runtime handed over at ADD, nil
// where it delivered none.
func delivered(c *journal.Contents) map[string]string {
	for i := range c.Records {
		var annotations map[string]string
		raw := c.Records[i].CapabilityArgs[network.PodAnnotations]
		if c.Records[i].Cluster && raw != nil && json.Unmarshal(raw, &annotations) == nil {
			return annotations
		}
	}
	return nil
}

// container explains one journal.
func (q *inquiry) container(c *journal.Contents) Container {
	out := Container{
		ID: c.Header.Container, UID: c.Header.UID, State: c.State(), Since: c.Opened, Netns: c.Header.Netns, Networks: []Network{},
	}
	netns := c.Header.Ref().Live(q.Boot, podns.Places(q.Root, c.Header.Netns)...)
	out.Live = netns != ""
	out.hidden = !out.Live && c.Header.Boot == q.Boot && !podns.Visible(q.Root, c.Header.Netns)
	out.whole = c.Complete && c.Releasing == "" && c.Detaching == ""
	annotations := delivered(c)
	if annotations == nil {
		annotations = q.annotations
	}
	whys := reasons(len(c.Records), annotations, c.Header.Chained)
	for i := range c.Records {
		out.Networks = append(out.Networks, networkOf(c, &c.Records[i], whys[i]))
	}
	if c.Routing != nil {
		out.routing(c.Routing, netns)
	}
	return out
}

// why says by what a pod gets a network.
type why struct {
	by     string
	choice network.DeviceChoice
}

// reasons are those of the attachments of a pod, in their order: the cluster
// network, what the configuration gives to every pod, then the annotation's,
// which are as many as it names.
func reasons(attachments int, annotations map[string]string, chained bool) []why {
	out := make([]why, attachments)
	for i := range out {
		out[i].by = "the configuration, for every pod"
	}
	if attachments > 0 && !chained {
		out[0].by = "the cluster network"
		if network.ReplacesCluster(annotations) {
			out[0].by = "annotation " + network.DefaultNetworkAnnotation
		}
	}
	value, own := annotations[network.NetworksAnnotation]
	selections, err := network.ParseSelections(network.NetworksAnnotation, value)
	if err != nil {
		return out
	}
	first := attachments - len(selections)
	for i, s := range selections {
		if first+i < 0 || first+i == 0 && !chained {
			continue // an ADD that did not come to them
		}
		w := &out[first+i]
		w.by = fmt.Sprintf("the annotation, network %d", i+1)
		w.choice, _, _ = s.ChosenDevice() // what is wrong with it, ADD refused
	}
	if !own && annotations != nil && attachments > 1 {
		for i := 1; i < attachments; i++ {
			out[i].by = "the configuration or the namespace, for every pod of it"
		}
	}
	return out
}

// networkOf explains one attachment of a journal.
func networkOf(c *journal.Contents, r *journal.Record, w why) Network {
	if r.Hidden {
		return Network{
			Interface: "-", Network: "-", Source: "-", By: w.by, Step: string(r.Step), Plugins: []string{},
			Problem: "its plan line is damaged: what it is is not known", Remedy: "delete the pod: what its annotations say then is detached",
		}
	}
	n := planned(&r.Attachment, w)
	n.Step = string(r.Step)
	n.Problem, n.Remedy = problem(c, r)
	n.Device = deviceOf(r, w.choice)
	if r.Result == nil {
		return n
	}
	result, err := delegate.Decode(r.Result)
	if err != nil {
		n.Problem, n.Remedy = "its result cannot be read: "+err.Error(), "delete the pod, so that it is started anew"
		return n
	}
	part := network.Part{IfName: r.IfName, Result: result}.Indexed(c.Header.Netns)
	for _, s := range network.StatusOf([]network.Attached{{Attachment: &r.Attachment, Result: part}}) {
		n.Addresses, n.MAC = s.IPs, s.MAC
	}
	return n
}

// planned is what is known of an attachment before it is attached.
func planned(a *network.Attachment, w why) Network {
	return Network{
		Interface: a.IfName, Network: a.Reference, Source: a.Source, By: w.by, Plugins: a.Types(),
	}
}

// problem says what is wrong with an attachment, and in which phase.
func problem(c *journal.Contents, r *journal.Record) (what, remedy string) {
	const again = "correct what the error names: the plugin tries again with its next calls"
	text := strings.Join(strings.Fields(r.Error), " ")
	switch {
	case c.Busy:
		return "", ""
	case r.Step == journal.Deleting && text != "":
		return fmt.Sprintf("DEL failed (tries of the container: %d): %s", c.Failures, text), again
	case r.Step == journal.Deleting:
		return "DEL did not end: its call was killed", "nothing: the plugin's next calls do it again"
	case r.Step == journal.Adding && c.Releasing == "":
		return "ADD did not end: its call was killed", "nothing: the runtime deletes the sandbox or repeats the ADD, and what was begun is undone first"
	case text != "":
		return "DEL failed before: " + text, ""
	case r.Step == journal.Planned && !c.Complete && c.Releasing == "":
		return "ADD ended before it came to this network", "see the networks before it, and the events"
	}
	return "", ""
}

// routing explains who carries what: by the kernel, else by the plan.
func (out *Container) routing(raw json.RawMessage, netns string) {
	var plan routing.Plan
	if err := json.Unmarshal(raw, &plan); err != nil {
		out.Unread = "the journal's routing plan is damaged: " + err.Error()
		return
	}
	out.Warnings = plan.Warnings
	if out.hidden {
		out.Unread = "the namespace cannot be seen from here"
		out.NICs = byPlan(&plan)
		return
	}
	if netns == "" {
		out.Unread = "the namespace is gone, and its routes with it"
		out.NICs = byPlan(&plan)
		return
	}
	shares, changed, err := inKernel(&plan, netns)
	if err != nil {
		out.Unread = err.Error()
		out.NICs = byPlan(&plan)
		return
	}
	out.Kernel, out.Changed = true, changed
	for _, s := range shares {
		out.NICs = append(out.NICs, nic(&s.NIC, s.Destinations))
	}
}

// inKernel reads who carries what, and compares it with the plan.
func inKernel(plan *routing.Plan, netns string) (shares []routing.Share, changed string, err error) {
	pod, err := routing.OpenPod(netns)
	if err != nil {
		return nil, "", err
	}
	defer pod.Close()
	if shares, err = pod.Carried(plan); err != nil {
		return nil, "", err
	}
	if err = pod.Compare(plan); err != nil {
		changed = err.Error()
	}
	return shares, changed, nil
}

// byPlan is who was to carry what when the pod got its networks.
func byPlan(plan *routing.Plan) []NIC {
	var out []NIC
	for i := range plan.NICs {
		n := &plan.NICs[i]
		var carries []string
		if n.Attachment == 0 {
			for _, r := range plan.Ranges {
				carries = append(carries, r.String())
			}
		}
		for family, c := range plan.Carriers {
			if c.NIC == n.Name {
				carries = append(carries, "everything else of "+[]string{"IPv4", "IPv6"}[family])
			}
		}
		out = append(out, nic(n, carries))
	}
	return out
}

func nic(n *routing.NIC, carries []string) NIC {
	out := NIC{Name: n.Name, Table: n.Table, Carries: slices.Clone(carries), Replies: []string{}}
	if out.Carries == nil {
		out.Carries = []string{}
	}
	for _, a := range n.Addresses {
		out.Replies = append(out.Replies, a.String())
	}
	return out
}
