package main

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/multiplexer-cni/multiplexer/pkg/install"
	"github.com/multiplexer-cni/multiplexer/pkg/journal"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// attached are the containers that the plugin attached, as their journals say,
// and those of Multus that it has to detach.
type attached struct {
	store  *journal.Store
	multus multusPods
}

// pods lists them all, those included that a call works on.
func (a attached) pods(context.Context) ([]install.Pod, error) {
	containers, err := a.store.Containers()
	if err != nil {
		return nil, err
	}
	pods, err := a.multus.pods(containers)
	if err != nil {
		return nil, err
	}
	for _, container := range containers {
		contents, readErr := a.store.Read(container)
		switch {
		case errors.Is(readErr, journal.ErrAbsent): // released since
		case readErr != nil:
			pods = append(pods, install.Pod{Container: container, Networks: []string{"its journal cannot be read: " + readErr.Error()}})
		default:
			pods = append(pods, podOf(container, contents))
		}
	}
	return pods, nil
}

// podOf says what of a container only multiplexer can undo.
func podOf(container string, c *journal.Contents) install.Pod {
	pod := install.Pod{Container: container, Name: c.Header.Pod, Busy: c.Busy}
	if name := defaultNetwork(c); name != "" {
		pod.Networks = append(pod.Networks, "in place of the cluster network: "+name)
	}
	for i := range c.Records {
		if r := &c.Records[i]; r.Network() {
			pod.Networks = append(pod.Networks, r.Reference)
		}
	}
	if c.Damaged > 0 {
		pod.Networks = append(pod.Networks, "its journal is damaged: delete the pod")
	}
	if c.Releasing != "" && len(pod.Networks) == 0 {
		pod.Networks = append(pod.Networks, "its release is unfinished: "+c.State())
	}
	return pod
}

// defaultNetwork is what the pod has in place of the cluster network by its
// annotation, or "".
func defaultNetwork(c *journal.Contents) string {
	for i := range c.Records {
		r := &c.Records[i]
		if !r.Cluster || !r.Attempted() {
			continue
		}
		var annotations map[string]string
		if json.Unmarshal(r.CapabilityArgs[network.PodAnnotations], &annotations) != nil {
			continue // the runtime delivered none
		}
		if network.ReplacesCluster(annotations) {
			return r.Reference
		}
	}
	return ""
}
