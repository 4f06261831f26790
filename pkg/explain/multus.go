package explain

import (
	"errors"
	"slices"
	"strings"

	"github.com/multiplexer-cni/multiplexer/pkg/delegate"
	"github.com/multiplexer-cni/multiplexer/pkg/multus"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/podns"
)

// readMultus finds the pod's containers that Multus attached, and that no
// journal of ours has taken over. What is left over of earlier ones is for
// doctor to say: a record names the pod, but not its UID.
func (q *inquiry) readMultus() {
	if q.hidden(q.Config.CNIDir) {
		return
	}
	dir := podns.Below(q.Root, q.Config.CNIDir)
	containers, err := multus.Containers(dir)
	if err != nil {
		q.NotAsked = append(q.NotAsked, err.Error())
		return
	}
	records := multus.NewReader(dir)
	for _, id := range containers {
		ours := func(c Container) bool { return c.ID == id }
		if slices.ContainsFunc(q.Containers, ours) {
			continue
		}
		record, rerr := records.Read(id, multus.Call{})
		if rerr == nil && record != nil && q.recorded(record) && (record.Hidden(q.Root) || !record.Gone(q.Root)) {
			q.Containers = append(q.Containers, q.attachedByMultus(id, record))
		}
	}
}

// recorded reports whether a record is of the pod.
func (q *inquiry) recorded(record *multus.Record) bool {
	namespace, name, _ := record.Pod()
	return namespace == q.namespace && name == q.name
}

// attachedByMultus explains one record.
func (q *inquiry) attachedByMultus(id string, record *multus.Record) Container {
	out := Container{
		ID: id, State: "attached by Multus; multiplexer detaches it by the records in " + q.Config.CNIDir,
		Live: !record.Hidden(q.Root), hidden: record.Hidden(q.Root), whole: true, Networks: []Network{},
	}
	_, _, out.UID = record.Pod()
	for i := range record.Attachments {
		a := &record.Attachments[i]
		if out.Netns == "" {
			out.Netns = a.Netns
		}
		out.Networks = append(out.Networks, recordedNetwork(a))
	}
	if len(record.Problems) > 0 {
		what := strings.Join(strings.Fields(errors.Join(record.Problems...).Error()), " ")
		q.note("once the pod is deleted, see that no address of its networks stays", "container "+id+": not all that Multus recorded can be read: "+what)
	}
	return out
}

// recordedNetwork explains one attachment of Multus.
func recordedNetwork(a *multus.Attachment) Network {
	n := planned(&a.Attachment, why{by: "Multus, by the annotation or for every pod"})
	if a.Cluster {
		n.By = "Multus, the cluster network"
	}
	n.Step = "recorded" // its ADD may have failed
	if a.Result == nil {
		return n
	}
	result, err := delegate.Decode(a.Result)
	if err != nil {
		n.Problem = "its result cannot be read: " + err.Error()
		return n
	}
	n.Step = "added"
	part := network.Part{IfName: a.IfName, Result: result}.Indexed(a.Netns)
	for _, s := range network.StatusOf([]network.Attached{{Attachment: &a.Attachment, Result: part}}) {
		n.Addresses, n.MAC = s.IPs, s.MAC
	}
	return n
}
