package main

import (
	"fmt"
	"path/filepath"
	"slices"

	"github.com/multiplexer-cni/multiplexer/pkg/install"
	"github.com/multiplexer-cni/multiplexer/pkg/multus"
	"github.com/multiplexer-cni/multiplexer/pkg/podns"
)

// multusPods are the containers that Multus attached, as its records say.
type multusPods struct {
	root, dir string               // dir is the node's path, "" = there are none
	heir      func() bool          // whether Multus detaches them, once we are gone
	passed    func(id, why string) // who is not waited for by force; nil without
}

// pods lists those that may live, may have more than the cluster network, and
// only multiplexer can detach: no journal is theirs yet.
func (m multusPods) pods(journaled []string) ([]install.Pod, error) {
	if m.dir == "" || m.heir() {
		return nil, nil
	}
	containers, err := multus.Containers(m.path())
	if err != nil {
		return nil, err
	}
	var pods []install.Pod
	records := multus.NewReader(m.path())
	for _, id := range containers {
		if slices.Contains(journaled, id) {
			continue
		}
		if pod := m.pod(records, id); pod != nil {
			pods = append(pods, *pod)
		}
	}
	return pods, nil
}

// first is one that may live and has, or may have, more than the cluster network;
// "" where none does.
func (m multusPods) first() (string, error) {
	containers, err := multus.Containers(m.path())
	records := multus.NewReader(m.path())
	for _, id := range containers {
		if record, rerr := records.Read(id, multus.Call{}); rerr == nil && m.needed(record) {
			return id, nil
		}
	}
	return "", err
}

// needed reports whether the container of a record is to be waited for: that it
// is gone, only who sees the directory of its namespace can say.
func (m multusPods) needed(record *multus.Record) bool {
	return record != nil && !record.Plain() && (!record.Gone(m.root) || record.Hidden(m.root))
}

// pod is one container, nil if nothing of it is to be waited for.
func (m multusPods) pod(records *multus.Reader, id string) *install.Pod {
	record, err := records.Read(id, multus.Call{})
	if err != nil || !m.needed(record) {
		return nil
	}
	pod := install.Pod{Container: id}
	if namespace, name, _ := record.Pod(); name != "" {
		pod.Name = namespace + "/" + name
	}
	for i := range record.Attachments {
		a := &record.Attachments[i]
		if !a.Cluster {
			pod.Networks = append(pod.Networks, a.Reference)
		}
	}
	lives, file := record.Lives(m.root), filepath.Join(m.dir, id)
	switch {
	case lives && len(pod.Networks) > 0:
	case !lives && m.passed != nil:
		m.passed(id, fmt.Sprintf("%s says of a container that Multus attached neither that it lives nor that it is gone: its addresses may stay allocated", file))
		return nil
	case len(pod.Networks) > 0 && record.Hidden(m.root):
		pod.Networks = append(pod.Networks, fmt.Sprintf("whether the pod lives cannot be seen from here: delete it, or remove %s if it is gone, or run multiplexerd uninstall on the node", file))
	case len(pod.Networks) > 0:
		// Before 4.1 Multus recorded no namespace.
		pod.Networks = append(pod.Networks, fmt.Sprintf("whether the pod lives is not recorded: delete it, or remove %s if it is gone", file))
	default:
		pod.Networks = []string{fmt.Sprintf("its networks are not known, %s: delete the pod, see that no address of its networks stays, and remove %s", record.Problems[0], file)}
	}
	pod.Networks[0] = "attached by Multus: " + pod.Networks[0]
	return &pod
}

func (m multusPods) path() string { return podns.Below(m.root, m.dir) }
