package k8sclient

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// seenEvent reads an event of either API: an old one counts itself, one of
// events.k8s.io has a series.
func seenEvent(e *corev1.Event) SeenEvent {
	seen := SeenEvent{
		UID:  string(e.InvolvedObject.UID),
		Time: e.LastTimestamp.Time, Warning: e.Type == corev1.EventTypeWarning, Reason: e.Reason, Text: e.Message,
		Count: max(int(e.Count), 1), From: cmp.Or(e.ReportingController, e.Source.Component),
	}
	if e.Series != nil {
		seen.Time, seen.Count = e.Series.LastObservedTime.Time, max(int(e.Series.Count), 1)
	}
	if seen.Time.IsZero() {
		seen.Time = e.EventTime.Time
	}
	return seen
}

func sortByTime(events []SeenEvent) {
	slices.SortStableFunc(events, func(a, b SeenEvent) int { return a.Time.Compare(b.Time) })
}
