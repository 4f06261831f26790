package benchtable

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"
)

func TestQuantile(t *testing.T) {
	for _, tc := range []struct {
		sorted []float64
		q      float64
		want   float64
	}{
		{[]float64{7}, 0.9, 7},
		{[]float64{1, 2, 3}, 0.5, 2},
		{[]float64{1, 2, 3, 4}, 0.5, 2.5},
		{[]float64{0, 10}, 0.1, 1},
		{[]float64{1, 2, 3}, 1, 3},
	} {
		if got := quantile(tc.sorted, tc.q); math.Abs(got-tc.want) > 1e-9 {
			t.Errorf("quantile(%v, %v) = %v, want %v", tc.sorted, tc.q, got, tc.want)
		}
	}
	if got := quantile(nil, 0.5); !math.IsNaN(got) {
		t.Errorf("quantile of nothing = %v, want NaN", got)
	}
}

func TestPairsTakesTurns(t *testing.T) {
	var calls []string
	call := func(name string, value float64) func() ([]float64, error) {
		return func() ([]float64, error) {
			calls = append(calls, name)
			return []float64{value, 2 * value}, nil
		}
	}
	s, err := Pace{Least: 2}.Pairs(context.Background(), call("ours", 3), call("floor", 2))
	if err != nil {
		t.Fatal(err)
	}
	// The first pair warms up; then each side goes first in turn.
	want := []string{"ours", "floor", "floor", "ours", "ours", "floor"}
	if !slices.Equal(calls, want) {
		t.Errorf("calls %v, want %v", calls, want)
	}
	ours, floor, ratio := s.Value(1)
	if ours.n != 2 || ours.median != 6 || floor.median != 4 || ratio.median != 1.5 {
		t.Errorf("ours %+v, floor %+v, ratio %+v", ours, floor, ratio)
	}
}

func TestPairsStops(t *testing.T) {
	broken := errors.New("broken")
	call := func() ([]float64, error) { return nil, broken }
	if _, err := (Pace{Least: 1}).Pairs(context.Background(), call, call); !errors.Is(err, broken) {
		t.Errorf("error %v, want that of the call", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := (Pace{Least: 1}).Pairs(ctx, call, call); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that of the context", err)
	}
}

func TestVerdict(t *testing.T) {
	for _, tc := range []struct {
		row  Row
		want string
	}{
		{Row{Ratio: Spread{median: 1.1}, Target: AtMost(1.1)}, "met"},
		{Row{Ratio: Spread{median: 1.11}, Target: AtMost(1.1)}, "MISSED"},
		{Row{Ratio: Spread{median: 0.85}, Target: AtLeast(0.85)}, "met"},
		{Row{Ratio: Spread{median: 0.84}, Target: AtLeast(0.85)}, "MISSED"},
		{Row{Ratio: Spread{median: 9}}, ""},
		{Row{Ratio: Spread{median: math.NaN()}, Target: AtMost(1)}, "MISSED"},
		{Row{Ours: Spread{median: 19}, Target: AtMost(20), Absolute: true}, "met"},
		{Row{Ours: Spread{median: 21}, Target: AtMost(20), Absolute: true}, "MISSED"},
	} {
		if got := tc.row.verdict(); got != tc.want {
			t.Errorf("%+v: %q, want %q", tc.row, got, tc.want)
		}
	}
}
