package k8sclient

import (
	"context"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/tools/record/util"
	"k8s.io/utils/clock"
)

const (
	// maxEvents is how many events may wait for the API server. Later ones are
	// lost: they are hints.
	maxEvents = 100
	// maxText is what Kubernetes allows.
	maxText = 1024
	// eventTries is how often an event is sent to a silent API server, and
	// eventPause the time between.
	eventTries = 12
	eventPause = 10 * time.Second
)

// events sends events, one after another. What is client-go's is the
// correlator, which counts equal ones, merges similar ones and limits how many
// a pod may have. Its recorder does the same and cannot be waited for.
type events struct {
	api        rest.Interface
	weather    *weather
	source     corev1.EventSource
	correlator *record.EventCorrelator
	queue      chan *corev1.Event
}

func newEvents(api rest.Interface, w *weather, node string) *events {
	return &events{
		api:        api,
		weather:    w,
		source:     corev1.EventSource{Component: component, Host: node},
		correlator: record.NewEventCorrelator(clock.RealClock{}),
		queue:      make(chan *corev1.Event, maxEvents),
	}
}

// Event tells who looks at a pod about it. It does not wait, and what cannot be
// told is lost.
func (c *Client) Event(pod *Pod, warning bool, reason, text string) {
	about := corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: types.UID(pod.UID)}
	c.events.tell(&about, pod.Namespace, warning, reason, text)
}

// NodeEvent tells who looks at our own node about it, in the same way.
func (c *Client) NodeEvent(warning bool, reason, text string) {
	// kubelet's events about its node have the name for a UID too, and kubectl
	// looks for those.
	about := corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: c.opts.Node, UID: types.UID(c.opts.Node)}
	c.events.tell(&about, metav1.NamespaceDefault, warning, reason, text)
}

func (e *events) tell(about *corev1.ObjectReference, namespace string, warning bool, reason, text string) {
	if text = strings.ToValidUTF8(text, "?"); len(text) > maxText {
		// The cut may be inside a character.
		text = strings.ToValidUTF8(text[:maxText-3], "") + "..."
	}
	now := metav1.Now()
	event := &corev1.Event{
		ObjectMeta:          metav1.ObjectMeta{Namespace: namespace, Name: util.GenerateEventName(about.Name, now.UnixNano())},
		InvolvedObject:      *about,
		Type:                corev1.EventTypeNormal,
		Reason:              reason,
		Message:             text,
		Source:              e.source,
		ReportingController: e.source.Component,
		ReportingInstance:   e.source.Host,
		FirstTimestamp:      now,
		LastTimestamp:       now,
		Count:               1,
	}
	if warning {
		event.Type = corev1.EventTypeWarning
	}
	select {
	case e.queue <- event:
	default:
	}
}

func (e *events) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case event := <-e.queue:
			e.send(ctx, event)
		}
	}
}

// send tries again only when the API server does not answer. What it refuses
// it would refuse again: the pod's namespace ends, or we have no right.
func (e *events) send(ctx context.Context, event *corev1.Event) {
	result, err := e.correlator.EventCorrelate(event)
	if err != nil || result.Skip {
		return
	}
	for range eventTries {
		began := time.Now()
		stored, writeErr := e.write(ctx, result)
		if writeErr == nil {
			e.correlator.UpdateState(stored)
		}
		noRight := apierrors.IsForbidden(writeErr) && !apierrors.HasStatusCause(writeErr, corev1.NamespaceTerminatingCause)
		if noRight || !refusal(writeErr) {
			e.weather.saw(resourceEvents, began, writeErr)
		}
		if writeErr == nil || refusal(writeErr) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(eventPause):
		}
	}
}

// write creates an event, or changes the one that it repeats, unless that was
// deleted: events live for an hour.
func (e *events) write(ctx context.Context, result *record.EventCorrelateResult) (*corev1.Event, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	event, stored := result.Event, &corev1.Event{}
	if event.Count > 1 {
		err := e.api.Patch(types.StrategicMergePatchType).Namespace(event.Namespace).Resource(resourceEvents).Name(event.Name).
			Body(result.Patch).Do(ctx).Into(stored)
		if !apierrors.IsNotFound(err) {
			return stored, err
		}
	}
	event.ResourceVersion = ""
	err := e.api.Post().Namespace(event.Namespace).Resource(resourceEvents).Body(event).Do(ctx).Into(stored)
	return stored, err
}
