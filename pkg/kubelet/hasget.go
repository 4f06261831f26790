package kubelet

import "context"

// HasGet reports whether kubelet answers Get, which asks for one pod; without
// it, all pods are listed for each that needs devices. Errors are as of Devices.
func (r *Resources) HasGet(ctx context.Context) (bool, error) {
	// A name that no pod has: kubelet refuses it, if it has Get at all.
	_, refused, err := r.get(ctx, "default", "multiplexer-doctor")
	if err != nil {
		return false, err
	}
	return !hasNoGet(refused), nil
}
