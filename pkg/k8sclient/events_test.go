package k8sclient

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// eventsOf returns what is stored about a namespace's pods.
func eventsOf(t *testing.T, namespace string) []corev1.Event {
	t.Helper()
	var list corev1.EventList
	if err := did(t, http.MethodGet, "/api/v1/namespaces/"+namespace+"/events", nil).Into(&list); err != nil {
		t.Fatal(err)
	}
	return list.Items
}

func TestEvents(t *testing.T) {
	shop := namespace(t, "events")
	uid := newPod(t, shop, "a", ourNode, nil)
	r := startSynced(t)
	pod := &Pod{Namespace: shop, Name: "a", UID: uid}
	for range 60 {
		r.Event(pod, true, "NoDefinition", "there is no definition shop/a")
	}
	var event corev1.Event
	eventually(t, func() error {
		list := eventsOf(t, shop)
		if len(list) != 1 || list[0].Count < 20 {
			return fmt.Errorf("%d events: %+v", len(list), list)
		}
		event = list[0]
		return nil
	})
	if event.InvolvedObject.UID != types.UID(uid) || event.InvolvedObject.Kind != "Pod" || event.InvolvedObject.Name != "a" || event.Type != corev1.EventTypeWarning ||
		event.Source.Component != component || event.Source.Host != ourNode || event.Reason != "NoDefinition" || event.Message != "there is no definition shop/a" {
		t.Errorf("%+v", event)
	}
	if created, patched := asked(t, "create events events"), asked(t, "patch events events"); created != 1 || patched < 19 || patched > 30 {
		t.Errorf("%d created, %d patched: 60 events are more than a pod may have", created, patched)
	}
	if n := asked(t, "update"); n > 0 {
		t.Errorf("%d updates, for which we have no right", n)
	}

	// Long, and cut inside a character.
	other := &Pod{Namespace: shop, Name: "b", UID: "b"}
	r.Event(other, false, "Long", strings.Repeat("x", maxText-4)+strings.Repeat("ä", 100))
	eventually(t, func() error {
		for _, one := range eventsOf(t, shop) {
			if one.Reason == "Long" && utf8.ValidString(one.Message) && len(one.Message) == maxText-1 && one.Type == corev1.EventTypeNormal {
				return nil
			}
		}
		return errors.New("no event")
	})
	// Stored events end after an hour: the next is a new one.
	did(t, http.MethodDelete, "/api/v1/namespaces/events/events", nil)
	r.Event(other, false, "Long", strings.Repeat("x", maxText-4)+strings.Repeat("ä", 100))
	eventually(t, func() error {
		if list := eventsOf(t, shop); len(list) != 1 || list[0].Count != 2 {
			return fmt.Errorf("%d events", len(list))
		}
		return nil
	})
}

// Nobody waits for events, and what the API server refuses is not sent again.
func TestEventsThatAreLost(t *testing.T) {
	shop := namespace(t, "lost")
	r := startSynced(t)
	r.Event(&Pod{Namespace: "nowhere", Name: "a", UID: "a"}, true, "Lost", "its namespace is gone")
	r.Event(&Pod{Namespace: shop, Name: "a", UID: "a"}, true, "Kept", "the next one is sent")
	eventually(t, func() error {
		if list := eventsOf(t, shop); len(list) != 1 {
			return fmt.Errorf("%d events", len(list))
		}
		return nil
	})
	if n := asked(t, "create events nowhere"); n != 1 {
		t.Errorf("sent %d times", n)
	}
	r.stop()
	for i := range 3 * maxEvents {
		r.Event(&Pod{Namespace: shop, Name: fmt.Sprint(i), UID: "a"}, true, "Late", "after the end")
	}
}
