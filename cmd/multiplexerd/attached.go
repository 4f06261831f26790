package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/multiplexer-cni/multiplexer/pkg/install"
	"github.com/multiplexer-cni/multiplexer/pkg/journal"
	"github.com/multiplexer-cni/multiplexer/pkg/lockfile"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// attached are the containers that the plugin attached, as their journals say,
// and those of Multus that it has to detach.
type attached struct {
	store  *journal.Store
	dir    string // the node's path of store, for whoever has to look there
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
		case lockfile.Irregular(readErr): // a directory, say, and nobody's journal
			if a.multus.passed != nil {
				a.multus.passed(container, readErr.Error())
				continue
			}
			pods = append(pods, install.Pod{Container: container, Networks: []string{readErr.Error()}})
		case readErr != nil:
			pods = append(pods, install.Pod{Container: container, Networks: []string{"its journal cannot be read: " + readErr.Error()}})
		default:
			pods = append(pods, a.podOf(container, contents))
		}
	}
	return pods, nil
}

// podOf says what of a container only multiplexer can undo.
func (a attached) podOf(container string, c *journal.Contents) install.Pod {
	pod := install.Pod{Container: container, Name: c.Header.Pod, Busy: c.Busy}
	if name := defaultNetwork(c); name != "" {
		pod.Networks = append(pod.Networks, "in place of the cluster network: "+name)
	}
	for i := range c.Records {
		if r := &c.Records[i]; r.Network() {
			pod.Networks = append(pod.Networks, r.Reference)
		}
	}
	if saysNothing(c) {
		file := filepath.Join(a.dir, "journal", container)
		pod.Networks = append(pod.Networks, fmt.Sprintf("its journal says nothing: delete the pod, or remove %s if it is gone", file))
	}
	if c.Damaged > 0 {
		pod.Networks = append(pod.Networks, "its journal is damaged: delete the pod")
	}
	if c.Releasing != "" && len(pod.Networks) == 0 {
		// Who is waited for is told anew when this changes: each try is no news.
		state, _, _ := strings.Cut(c.State(), ", tries:")
		pod.Networks = append(pod.Networks, "its release is unfinished: "+state)
	}
	return pod
}

// saysNothing reports whether a journal is empty, or was torn in its first line,
// and no call writes it: what the pod has, nobody knows.
func saysNothing(c *journal.Contents) bool { return !c.Usable() && c.Damaged == 0 && !c.Busy }

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
