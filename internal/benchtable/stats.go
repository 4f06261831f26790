package benchtable

import (
	"context"
	"math"
	"slices"
	"time"
)

// Pace says how many samples a figure takes: as many as fit into a time, but
// not fewer than some.
type Pace struct {
	Takes time.Duration
	Least int
}

// Pairs measures two sides in turn. Each side's first call is not counted:
// it fills caches and makes bridges. A side returns what one call took, as
// one value or as several that are measured together.
func (p Pace) Pairs(ctx context.Context, ours, floor func() ([]float64, error)) (*Samples, error) {
	s := &Samples{}
	var end time.Time
	for n := 0; n <= p.Least || time.Now().Before(end); n++ {
		order := []side{{&s.ours, ours}, {&s.floor, floor}}
		if n%2 == 1 {
			slices.Reverse(order)
		}
		for _, side := range order {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			values, err := side.call()
			if err != nil {
				return nil, err
			}
			*side.values = append(*side.values, values)
		}
		if n == 0 {
			s.ours, s.floor = nil, nil
			end = time.Now().Add(p.Takes)
		}
	}
	return s, nil
}

type side struct {
	values *[][]float64
	call   func() ([]float64, error)
}

// Samples are what Pairs measured: values[n][k] is the k-th value of call n.
type Samples struct{ ours, floor [][]float64 }

// Value returns the k-th value of all calls, and the ratio in each pair.
func (s *Samples) Value(k int) (ours, floor, ratio Spread) {
	var a, b, r []float64
	for n := range s.ours {
		a, b = append(a, s.ours[n][k]), append(b, s.floor[n][k])
		r = append(r, s.ours[n][k]/s.floor[n][k])
	}
	return SpreadOf(a), SpreadOf(b), SpreadOf(r)
}

// Difference returns by how much our k-th value is more, in each pair.
func (s *Samples) Difference(k int) Spread {
	var d []float64
	for n := range s.ours {
		d = append(d, s.ours[n][k]-s.floor[n][k])
	}
	return SpreadOf(d)
}

// Spread is a distribution in a few numbers.
type Spread struct {
	n                       int
	low, lower, upper, high float64 // p10, p25, p75, p90
	median                  float64
}

// SpreadOf returns the distribution of values.
func SpreadOf(values []float64) Spread {
	sorted := slices.Sorted(slices.Values(values))
	return Spread{
		n: len(sorted), low: quantile(sorted, 0.1), lower: quantile(sorted, 0.25), median: quantile(sorted, 0.5),
		upper: quantile(sorted, 0.75), high: quantile(sorted, 0.9),
	}
}

// quantile interpolates between the two nearest of the sorted values.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	at := q * float64(len(sorted)-1)
	below, part := math.Modf(at)
	i := int(below)
	if i+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[i] + part*(sorted[i+1]-sorted[i])
}
