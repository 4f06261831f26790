package kubelet

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	podresources "k8s.io/kubelet/pkg/apis/podresources/v1"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// Device is one device that kubelet gave to a container of a pod.
type Device struct{ Container, Resource, ID string }

// Resources asks kubelet for the devices of pods. It connects when it is
// asked first, keeps that one connection, and may be asked by many at once.
type Resources struct {
	Socket     string // of kubelet's pod-resources service
	Checkpoint string // kubelet's private file, read when the socket fails; "" = never
	Log        *slog.Logger

	most time.Duration // instead of checkpointAfter, if it is not 0

	mu     sync.Mutex
	conn   *connection
	closed bool
	turn   chan struct{} // held by the one request that waits for kubelet's rate limit

	dials  atomic.Int64 // the number of the connection
	noGet  atomic.Int64 // the number of the connection whose kubelet has no Get
	warned sync.Once
}

// checkpointAfter is how long kubelet may take at most when there is a
// checkpoint to read instead.
const checkpointAfter = time.Second

// Devices returns the devices of one pod: in the order of its containers as
// kubelet lists them (sidecars, then the others; it leaves out other init
// containers, whose devices the others get after them), in a container by
// resource, and those of one resource in PCI order: kubelet's own order is
// another one at each call. The list is empty for a pod without devices.
//
// A pod that kubelet does not know is an error of kind Again: kubelet admits
// a pod and allocates its devices before it asks the runtime for the pod's
// sandbox, so at ADD it can only be a kubelet that has just started and whose
// pods are still to come. Without this error that would look like a pod
// without devices.
//
// The UID finds the pod in the checkpoint; kubelet's answers have none.
func (r *Resources) Devices(ctx context.Context, namespace, name, uid string) ([]Device, error) {
	pod, err := r.ask(ctx, namespace, name)
	if err != nil && r.Checkpoint != "" {
		return r.recorded(namespace+"/"+name, uid, err)
	}
	if err != nil {
		return nil, err
	}
	if pod == nil {
		return nil, network.Again.Errorf("kubelet at %s does not know pod %s/%s, or not yet: did it just start? "+
			"(a pod that something else than kubelet started has no devices)", r.Socket, namespace, name)
	}
	return devicesOf(pod), nil
}

func (r *Resources) ask(ctx context.Context, namespace, name string) (*podresources.PodResources, error) {
	if r.Checkpoint == "" {
		return r.find(ctx, namespace, name)
	}
	limited, cancel := context.WithTimeout(ctx, r.beforeCheckpoint(ctx))
	defer cancel()
	return r.find(limited, namespace, name)
}

// beforeCheckpoint is how long kubelet may take: half of the time is left to
// read the checkpoint.
func (r *Resources) beforeCheckpoint(ctx context.Context) time.Duration {
	most := cmp.Or(r.most, checkpointAfter)
	if deadline, ok := ctx.Deadline(); ok {
		return min(most, time.Until(deadline)/2)
	}
	return most
}

// devicesOf reads kubelet's answer. A container has one entry for each device
// and each of its NUMA nodes, with the same resource name again and again.
func devicesOf(pod *podresources.PodResources) []Device {
	var all []Device
	for _, container := range pod.GetContainers() {
		var its []Device
		for _, entry := range container.GetDevices() {
			for _, id := range entry.GetDeviceIds() {
				its = append(its, Device{Container: container.GetName(), Resource: entry.GetResourceName(), ID: id})
			}
		}
		all = append(all, ordered(its)...)
	}
	return all
}

// Close ends the connection. Whoever still asks gets an error.
func (r *Resources) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	if r.conn == nil {
		return nil
	}
	err := r.conn.Close()
	r.conn = nil
	if err != nil {
		return fmt.Errorf("close the connection to kubelet at %s: %w", r.Socket, err)
	}
	return nil
}
