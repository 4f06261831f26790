package explain

import (
	"slices"
	"strings"

	"github.com/multiplexer-cni/multiplexer/pkg/k8sclient"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// phases are the events that concern a pod's networks: by reason, the phase
// and what to do.
func phases() map[string][2]string {
	return map[string][2]string{
		"FailedScheduling":         {"schedule", "a network with a device needs its resource in a container's resources.limits, and a node that offers it (multiplexerd devices)"},
		"UnexpectedAdmissionError": {"admit", "kubelet took the device for unhealthy at that instant: delete the pod; multiplexerd devices says how the device is"},
		"NoNetworkFound":           {phaseResolve, "create the definition, or correct the annotation"},
		"AttachmentFailed":         {}, // the text says which
		"FailedCreatePodSandBox":   {},
		"NetworkNotReady":          {phaseAttach, "the runtime has no network: multiplexerd doctor"},
		"FailedKillPod":            {"release", "see multiplexerd journal CONTAINERID for what could not be undone"},
	}
}

// The phases in which an ADD of ours fails, in their order.
const (
	phaseAsk     = "ask the agent"
	phaseResolve = "resolve"
	phaseDevices = "devices"
	phaseAttach  = "attach"
)

// failure says in which phase an ADD failed and what to do, by its error. The
// runtime and kubelet put words of their own before that.
func failure(text string) (phase, remedy string) {
	if _, ours, cut := strings.Cut(text, "failed (add): "); cut {
		text = ours
	}
	has := func(words ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(text, w) })
	}
	switch {
	case strings.HasPrefix(text, "attach "):
		return phaseAttach, "correct what the plugin names: the definition, or the node; docs/troubleshooting.md lists the texts"
	case has("agent at ", "agent: "):
		return phaseAsk, "multiplexerd doctor says what is wrong with the agent; the pod's next try goes on"
	case has("needs a device of", "asks for device", "asks for a device of container", "both ask for device"):
		return phaseDevices, "ask for the resource in a container's resources.limits, once for each network; multiplexerd devices says what the node offers"
	case has("annotation ", "NetworkAttachmentDefinition ", "is not open to pods"):
		return phaseResolve, "correct the annotation or the definition that the text names"
	}
	return phaseAttach, "the text says what to do; docs/troubleshooting.md lists the texts"
}

// takeEvents keeps the events that concern networks. Of a pod that is there,
// those of earlier pods of its name are left out; kubelet knows a static pod by
// another UID.
func (q *inquiry) takeEvents(all []k8sclient.SeenEvent) {
	known := phases()
	for _, e := range all {
		if q.pod != nil && !q.pod.Static && e.UID != "" && e.UID != q.pod.UID {
			continue
		}
		phase, concerns := known[e.Reason]
		if !concerns && e.From != "multiplexer" {
			continue
		}
		if !concerns {
			phase = [2]string{phaseAttach, ""}
		}
		if phase[0] == "" {
			phase[0], phase[1] = failure(e.Text)
		}
		if !e.Warning {
			phase[1] = ""
		}
		q.Events = append(q.Events, Event{e, phase[0], phase[1]})
	}
}

// notes say what to look at where the pod's own state does not.
func (q *inquiry) notes() {
	q.absence()
	for i := range q.Containers {
		c := &q.Containers[i]
		switch {
		case c.hidden:
			q.note("run this on the node itself", "container "+c.ID+": whether its namespace lives cannot be seen from here")
		case !c.Live:
			q.note("nothing: the plugin releases it with its next calls; if it stays, multiplexerd doctor", "container "+c.ID+": its namespace is gone, its attachments are left over")
		case c.Changed != "":
			q.note("delete the pod, so that it is started anew", "container "+c.ID+": somebody changed its routing since: "+c.Changed)
		}
		if q.pod != nil && c.UID != "" && c.UID != q.pod.UID && !q.pod.Static {
			q.note("nothing, if it goes soon", "container "+c.ID+" is of an earlier pod of this name (UID "+c.UID+")")
		}
	}
	if c := q.attached(); c != nil && !c.Since.IsZero() && q.pod != nil && len(c.Networks) > 1 && q.Status == "" {
		q.note("see the agent's log; its --publish may be off", "the pod does not show its networks: the annotation "+network.StatusAnnotation+" is missing")
	}
}

// absence explains that there is no journal.
func (q *inquiry) absence() {
	if len(q.Containers) > 0 {
		if q.gone {
			q.note("", "the API server has no such pod any more")
		}
		return
	}
	switch {
	case q.gone:
		q.Missing = true
		q.note("correct the name: kubectl get pods -A", "the API server has no such pod, and nothing of it is on this node")
	case q.pod == nil && (q.Planned == nil || len(q.Asked) == 0):
		q.Missing = true
		q.note("see where it is (kubectl get pod -o wide) and its events (kubectl describe pod); with --kubeconfig they are here",
			"no journal of this node is about the pod: it is on another node, has not been attached, or was detached")
	case q.pod == nil:
		q.note("see its events (kubectl describe pod); with --kubeconfig they are here", "no journal of this node is about the pod: it has not been attached here, or what failed was undone")
	case q.pod.Host:
		q.note("set hostNetwork to false if it is to have networks", "the pod uses the node's own network (hostNetwork): it gets no other")
	case q.elsewhere():
		q.note("run multiplexerd explain there: "+there(q.pod.Node), "the pod is on node "+q.pod.Node+", this is "+q.Explainer.Node)
	case q.pod.Node == "":
		q.note("see its events", "the pod is on no node yet: the scheduler has not placed it")
	case q.Phase == "Running":
		q.unattached()
	case len(q.Events) > 0:
		q.note("see the events", "no journal of this node is about the pod: what failed was undone")
	default:
		q.note("multiplexerd doctor says whether the runtime calls multiplexer; kubelet's log says what it waits for", "no journal of this node is about the pod: the runtime has not called multiplexer for it, or what failed was undone")
	}
}

// unattached explains that a pod runs without us.
func (q *inquiry) unattached() {
	if q.hidden(q.Config.CNIDir) {
		q.note("run this on the node itself, which has the records of Multus ("+q.Config.CNIDir+")",
			"the pod runs, and multiplexer did not attach it; whether Multus did cannot be seen from here")
		return
	}
	q.note("multiplexerd doctor says whether the runtime calls multiplexer; a pod from before the installation gets its networks when it is started anew",
		"the pod runs, and multiplexer did not attach it")
}

// there is a command for another node.
func there(node string) string {
	return "kubectl -n kube-system get pods -l app.kubernetes.io/name=multiplexer -o wide --field-selector spec.nodeName=" + strings.TrimSpace(node)
}
