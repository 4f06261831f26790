package multiplexer

import (
	"context"
	"errors"

	"github.com/multiplexer-cni/multiplexer/pkg/agentapi"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/plan"
)

// publish tells the agent that the pod's journal is complete. An agent that
// does not show it on the pod in time does so later: the pod never waits for
// the API server.
func (c *call) publish(ctx context.Context) {
	if c.agent == nil || c.agent.known == nil || !c.agent.known.Publish {
		return
	}
	_, err := agentapi.Ask(ctx, c.config.AgentSocket, agentapi.Request{
		Verb: agentapi.VerbPublish, Pod: c.agent.wirePod(), Container: c.args.ContainerID,
	})
	if err != nil {
		c.log.Warn("the pod's network-status comes later", "error", err.Error())
	}
}

// The reasons of the events for an ADD that failed, as Multus names them.
const (
	reasonNoNetwork = "NoNetworkFound"
	reasonFailed    = "AttachmentFailed"
)

// tell lets the agent tell the pod's owner why an ADD failed. Of pods with
// the cluster network alone kubelet tells it all; an agent that did not
// answer once is not asked again.
func (c *call) tell(ctx context.Context, pod plan.Pod, cause error) {
	if c.agent == nil || c.agent.known == nil || !pod.Asks() && !c.planner.Defaults(pod) {
		return
	}
	failure := &agentapi.Failure{Reason: reasonFailed, Text: cause.Error()}
	if errors.Is(cause, plan.ErrNoDefinition) {
		failure.Reason = reasonNoNetwork
	}
	_, err := agentapi.Ask(ctx, c.config.AgentSocket, agentapi.Request{
		Verb: agentapi.VerbFailed, Pod: c.agent.wirePod(), Failure: failure,
	})
	if err != nil && !errors.Is(err, network.Again) {
		c.log.Warn("the failure cannot be told to the pod's owner", "error", err.Error())
	}
}
