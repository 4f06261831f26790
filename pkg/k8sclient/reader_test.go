package k8sclient

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/multiplexer-cni/multiplexer/internal/kubetest"
)

// readerAs reads as somebody.
func readerAs(t *testing.T, who kubetest.Credential) *Reader {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", cluster.RequireKubeconfig(t, who))
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewReader(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// The answers are those of whoever asks.
func TestReaderMay(t *testing.T) {
	agent := readerAs(t, kubetest.Credential{Token: token})
	for right, want := range map[Right]bool{
		{"k8s.cni.cncf.io", "network-attachment-definitions", "", "watch"}: true,
		{"", "pods", "status", "patch"}:                                    true,
		{"", "pods", "", "patch"}:                                          false,
		{"", "events", "", "list"}:                                         true,
		{"", "events", "", "get"}:                                          false,
	} {
		if got, err := agent.May(t.Context(), right); err != nil || got != want {
			t.Errorf("%s: %v, %v", right, got, err)
		}
	}
	nobody := readerAs(t, kubetest.Credential{Token: "none"})
	if _, err := nobody.May(t.Context(), Right{Resource: "pods", Verb: "get"}); err == nil || !strings.Contains(err.Error(), "renew") {
		t.Errorf("a token that is none: %v", err)
	}
}

func TestReaderPod(t *testing.T) {
	r := readerAs(t, cluster.Admin())
	cluster.RequireApply(t, `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"seen"}}`,
		`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web","namespace":"seen","annotations":{"k8s.v1.cni.cncf.io/networks":"a","other":"x"}},
		"spec":{"nodeName":"node-b","hostNetwork":true,"automountServiceAccountToken":false,"containers":[{"name":"app","image":"none"}]}}`)
	pod, err := r.Pod(t.Context(), "seen", "web")
	if err != nil {
		t.Fatal(err)
	}
	if pod.UID == "" {
		t.Error("no UID")
	}
	pod.UID = ""
	want := &SeenPod{Node: "node-b", Phase: "Pending", Host: true, Annotations: map[string]string{"k8s.v1.cni.cncf.io/networks": "a"}}
	if diff := cmp.Diff(want, pod); diff != "" {
		t.Error(diff)
	}
	if _, err = r.Pod(t.Context(), "seen", "none"); !errors.Is(err, ErrGone) {
		t.Errorf("%v", err)
	}
	if events, eventsErr := r.Events(t.Context(), "seen", "web"); eventsErr != nil || len(events) > 0 {
		t.Errorf("%v, %v", events, eventsErr)
	}
	nobody, err := cluster.User("nobody")
	if err != nil {
		t.Fatal(err)
	}
	if _, err = readerAs(t, nobody).Events(t.Context(), "seen", "web"); err == nil || !strings.Contains(err.Error(), "may not list them: see kubectl -n seen describe pod web") {
		t.Errorf("%v", err)
	}
}

// Events of both APIs, in the order of time.
func TestSeenEvents(t *testing.T) {
	at := func(minute int) time.Time { return time.Date(2026, 1, 2, 3, minute, 0, 0, time.UTC) }
	old := seenEvent(&corev1.Event{
		Type: "Warning", Reason: "A", Message: "a", Count: 3, LastTimestamp: metav1.NewTime(at(9)), Source: corev1.EventSource{Component: "kubelet"}, InvolvedObject: corev1.ObjectReference{UID: "u"},
	})
	series := seenEvent(&corev1.Event{
		Type: "Normal", Reason: "B", Message: "b", EventTime: metav1.NewMicroTime(at(1)), ReportingController: "multiplexer",
		Series: &corev1.EventSeries{Count: 2, LastObservedTime: metav1.NewMicroTime(at(5))},
	})
	single := seenEvent(&corev1.Event{Type: "Warning", Reason: "C", EventTime: metav1.NewMicroTime(at(3)), ReportingController: "x"})
	got := []SeenEvent{old, series, single}
	sortByTime(got)
	want := []SeenEvent{
		{"", at(3), true, "C", "", 1, "x"}, {"", at(5), false, "B", "b", 2, "multiplexer"}, {"u", at(9), true, "A", "a", 3, "kubelet"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
