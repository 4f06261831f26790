package kubelet

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// maxCheckpoint bounds what is read of kubelet's file.
const maxCheckpoint = 16 << 20

// checkpoint is kubelet's file kubelet_internal_checkpoint, as far as it is
// of use here.
//
// Its checksum is not verified: it is a hash over Go's way to print kubelet's
// private types, and changes with their names. It would only guard against a
// torn file, and kubelet renames a complete one into place.
type checkpoint struct {
	Data *struct {
		PodDeviceEntries []struct {
			PodUID        string
			ContainerName string
			ResourceName  string
			DeviceIDs     deviceIDs
		}
	}
}

// deviceIDs of all NUMA nodes.
type deviceIDs []string

// UnmarshalJSON takes a list by NUMA node, or the bare list that kubelet
// wrote before 1.20.
func (ids *deviceIDs) UnmarshalJSON(raw []byte) error {
	var old []string
	if json.Unmarshal(raw, &old) == nil {
		*ids = old
		return nil
	}
	var byNode map[string][]string
	if err := json.Unmarshal(raw, &byNode); err != nil {
		return err
	}
	for _, of := range byNode {
		*ids = append(*ids, of...)
	}
	return nil
}

// recorded returns the devices of a pod from the checkpoint, because kubelet
// could not be asked.
func (r *Resources) recorded(pod, uid string, unanswered error) ([]Device, error) {
	if uid == "" {
		return nil, network.Again.Errorf("%w; kubelet's checkpoint %s cannot be searched: the UID of pod %s is not known", unanswered, r.Checkpoint, pod)
	}
	file, err := readCheckpoint(r.Checkpoint)
	if err != nil {
		return nil, network.Again.Errorf("%w; %w", unanswered, err)
	}
	r.warned.Do(func() {
		r.Log.Warn("devices are read from kubelet's private checkpoint file, which may lag behind or change its format; make its pod-resources socket reachable",
			"file", r.Checkpoint, "reason", unanswered)
	})
	return file.devices(uid), nil
}

// devices returns the devices of one pod, by the names of its containers:
// kubelet writes them in another order each time. An init container's device
// that a later container got too is told once; which of them lists it is not
// said anywhere.
func (c *checkpoint) devices(uid string) []Device {
	containers, seen := map[string][]Device{}, map[Device]bool{}
	for _, entry := range c.Data.PodDeviceEntries {
		for _, id := range entry.DeviceIDs {
			if entry.PodUID == uid {
				containers[entry.ContainerName] = append(containers[entry.ContainerName],
					Device{Container: entry.ContainerName, Resource: entry.ResourceName, ID: id})
			}
		}
	}
	var all []Device
	for _, container := range slices.Sorted(maps.Keys(containers)) {
		for _, device := range ordered(containers[container]) {
			key := Device{Resource: device.Resource, ID: device.ID}
			if !seen[key] {
				seen[key] = true
				all = append(all, device)
			}
		}
	}
	return all
}

func readCheckpoint(path string) (*checkpoint, error) {
	// Neither a link to another file nor a pipe that blocks.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("kubelet's checkpoint: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("kubelet's checkpoint: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("kubelet's checkpoint %s is no regular file: name the file kubelet_internal_checkpoint", path)
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxCheckpoint+1))
	if err != nil {
		return nil, fmt.Errorf("kubelet's checkpoint: %w", err)
	}
	if len(raw) > maxCheckpoint {
		return nil, fmt.Errorf("kubelet's checkpoint %s has more than %d bytes: is it the file kubelet_internal_checkpoint?", path, maxCheckpoint)
	}
	file := &checkpoint{}
	if err = json.Unmarshal(raw, file); err == nil && file.Data == nil {
		err = errors.New("it has no Data")
	}
	if err != nil {
		return nil, fmt.Errorf("kubelet's checkpoint %s is of a format that this version does not know: %w", path, err)
	}
	return file, nil
}
