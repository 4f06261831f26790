package k8sclient

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// weather is how the API server treats us. It is told of every list, watch and
// event, and logs changes only: the retries may go on for days.
type weather struct {
	log *slog.Logger

	mu sync.Mutex
	// silent is why the API server does not answer, nil when it does.
	silent   error
	answered time.Time
	refused  map[string]*refused
}

// refused is why the API server answers, but does not give us a resource.
type refused struct {
	err    error
	since  time.Time
	logged bool
}

// startTime is how long an API server may refuse before it is worth a warning:
// one that has just started does not know its roles yet.
const startTime = 15 * time.Second

// saw notes how a request for a resource ended that began at a time.
func (w *weather) saw(resource string, began time.Time, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case errors.Is(err, context.Canceled) || expired(err):
		return
	case err != nil && !refusal(err):
		// What was sent before the last answer says nothing about now.
		if w.silent == nil && began.After(w.answered) {
			w.silent = short(err)
			w.log.Warn("the API server does not answer: what is known stays in use, and it is asked again and again", "resource", resource, "error", w.silent)
		}
		return
	}
	if w.silent != nil {
		w.log.Info("the API server answers again", "resource", resource)
	}
	w.silent, w.answered = nil, time.Now()
	w.answer(resource, err)
}

// answer notes that a resource was refused, or given.
func (w *weather) answer(resource string, err error) {
	now := w.refused[resource]
	switch {
	case err == nil && now != nil:
		delete(w.refused, resource)
		if now.logged {
			w.log.Info("the API server does not refuse any more", "resource", resource)
		}
	case err == nil:
	case now == nil:
		w.refused[resource] = &refused{err: err, since: w.answered}
	default:
		now.err = err
		if !now.logged && w.answered.Sub(now.since) >= startTime {
			now.logged = true
			w.log.Warn("the API server refuses a request: "+advice(err), "resource", resource, "error", err)
		}
	}
}

// why says why a resource is not known.
func (w *weather) why(resource string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.silent != nil:
		return "the API server does not answer: " + w.silent.Error()
	case w.refused[resource] != nil:
		return explained(w.refused[resource].err).Error()
	default:
		return "asked for, not answered yet"
	}
}

// refusal says that the API server is well, and does not want to.
func refusal(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return false
	}
	code := status.Status().Code
	return code >= http.StatusBadRequest && code < http.StatusInternalServerError && code != http.StatusTooManyRequests
}

// expired says that a watch has to begin anew, which it does by itself, or that
// an old API server cannot begin one with a list.
func expired(err error) bool {
	return apierrors.IsResourceExpired(err) || apierrors.IsGone(err) || apierrors.IsInvalid(err) ||
		apierrors.HasStatusCause(err, metav1.CauseTypeResourceVersionTooLarge)
}

// advice says what to do about a refusal.
func advice(err error) string {
	switch {
	case apierrors.IsUnauthorized(err):
		return "the token is not accepted: renew the service account's, or the kubeconfig's"
	case apierrors.IsForbidden(err):
		return "apply deploy/rbac.yaml of this version"
	case apierrors.IsNotFound(err):
		return "install the kind (a CustomResourceDefinition)"
	default:
		return "see the API server's log"
	}
}

// explained adds to a refusal what to do about it.
func explained(err error) error {
	if refusal(err) {
		return fmt.Errorf("%w: %s", err, advice(err))
	}
	return short(err)
}

// short leaves the URL out, which may be longer than the rest.
func short(err error) error {
	var long *url.Error
	if errors.As(err, &long) {
		return long.Err
	}
	return err
}
