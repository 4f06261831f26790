package main

import (
	"slices"

	"github.com/multiplexer-cni/multiplexer/pkg/install"
	"github.com/multiplexer-cni/multiplexer/pkg/multus"
	"github.com/multiplexer-cni/multiplexer/pkg/podns"
)

// multusPods are the containers that Multus attached, as its records say.
type multusPods struct {
	root, dir string      // dir is the node's path, "" = there are none
	heir      func() bool // whether Multus detaches them, once we are gone
}

// pods lists those that live, have more than the cluster network, and only
// multiplexer can detach: no journal is theirs yet.
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

// pod is one container, nil if nothing of it is to be waited for.
func (m multusPods) pod(records *multus.Reader, id string) *install.Pod {
	record, err := records.Read(id, multus.Call{})
	if err != nil || record == nil || !record.Lives(m.root) {
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
	if len(pod.Networks) == 0 {
		return nil
	}
	pod.Networks[0] = "attached by Multus: " + pod.Networks[0]
	return &pod
}

func (m multusPods) path() string { return podns.Below(m.root, m.dir) }
