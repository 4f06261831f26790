package agent

import (
	"context"
	"errors"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// poolsPatience is how long one look at kubelet's devices may take.
const poolsPatience = 10 * time.Second

// watchPools keeps on disk which VFs device plugins advertise, so that the
// plugin picks no other pod's: at the start, and at every sweep. While kubelet
// does not answer, the last answer stays.
func (a *Agent) watchPools(ctx context.Context) error {
	told := ""
	for {
		err := a.lookAtPools(ctx)
		text := ""
		if err != nil && ctx.Err() == nil {
			text = err.Error()
		}
		if text != "" && text != told && !errors.Is(err, network.Unsupported) {
			a.Log.Warn("what device plugins advertise is not known: VFs are picked by what was known before", "error", text)
		}
		told = text
		if !sleep(ctx, a.Sweep) {
			return nil
		}
	}
}

func (a *Agent) lookAtPools(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, poolsPatience)
	defer cancel()
	advertised, err := a.kubelet.Advertised(ctx)
	if err != nil {
		return err
	}
	return sriov.NewClaims(a.StateDir, "").Advertise(advertised)
}
