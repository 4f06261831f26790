package agent

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// poolsPatience is how long one look at kubelet's devices may take.
const poolsPatience = 10 * time.Second

// pools knows what kubelet says of the node's devices, and keeps on disk which
// VFs device plugins advertise, so that the plugin picks no other pod's.
type pools struct {
	agent *Agent

	mu    sync.Mutex
	given map[string]string // namespace/pod by the device's ID; nil = not known
	asked time.Time         // when kubelet was asked for it

	ask chan struct{} // asks for a look before the next sweep
}

// run looks at the start, at every sweep, and when it is asked to. While kubelet does not answer,
// its last answers stay.
func (p *pools) run(ctx context.Context) error {
	told := ""
	for {
		text := ""
		if err := p.look(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, network.Unsupported) {
			text = err.Error()
		}
		if text != "" && text != told {
			p.agent.Log.Warn("what device plugins advertise is not known: VFs are picked by what was known before", "error", text)
		}
		told = text
		select {
		case <-ctx.Done():
			return nil
		case <-p.ask:
		case <-time.After(p.agent.Sweep):
		}
	}
}

func (p *pools) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, poolsPatience)
	defer cancel()
	asked := p.agent.Now()
	given, err := p.agent.kubelet.Holders(ctx)
	if err == nil {
		p.mu.Lock()
		p.given, p.asked = given, asked
		p.mu.Unlock()
	}
	advertised, advErr := p.agent.kubelet.Advertised(ctx)
	if advErr == nil {
		advErr = sriov.NewClaims(p.agent.StateDir, "").Advertise(advertised)
	}
	if err != nil && advErr != nil && err.Error() == advErr.Error() {
		return err // kubelet cannot be reached, whatever it is asked
	}
	return errors.Join(err, advErr)
}

// holders are the pods that kubelet gave devices to, by the devices' IDs.
func (p *pools) holders() map[string]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.given
}
