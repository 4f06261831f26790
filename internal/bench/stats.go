package main

import (
	"context"
	"math"
	"slices"
	"time"
)

// pace says how many samples a figure takes: as many as fit into a time, but
// not fewer than some.
type pace struct {
	takes time.Duration
	least int
}

// pairs measures two sides in turn. Each side's first call is not counted:
// it fills caches and makes bridges. A side returns what one call took, as
// one value or as several that are measured together.
func (p pace) pairs(ctx context.Context, ours, floor func() ([]float64, error)) (*samples, error) {
	s := &samples{}
	var end time.Time
	for n := 0; n <= p.least || time.Now().Before(end); n++ {
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
			end = time.Now().Add(p.takes)
		}
	}
	return s, nil
}

type side struct {
	values *[][]float64
	call   func() ([]float64, error)
}

// samples are what pairs measured: values[n][k] is the k-th value of call n.
type samples struct{ ours, floor [][]float64 }

// value returns the k-th value of all calls, and the ratio in each pair.
func (s *samples) value(k int) (ours, floor, ratio spread) {
	var a, b, r []float64
	for n := range s.ours {
		a, b = append(a, s.ours[n][k]), append(b, s.floor[n][k])
		r = append(r, s.ours[n][k]/s.floor[n][k])
	}
	return spreadOf(a), spreadOf(b), spreadOf(r)
}

// difference returns by how much our k-th value is more, in each pair.
func (s *samples) difference(k int) spread {
	var d []float64
	for n := range s.ours {
		d = append(d, s.ours[n][k]-s.floor[n][k])
	}
	return spreadOf(d)
}

// spread is a distribution in a few numbers.
type spread struct {
	n                       int
	low, lower, upper, high float64 // p10, p25, p75, p90
	median                  float64
}

func spreadOf(values []float64) spread {
	sorted := slices.Sorted(slices.Values(values))
	return spread{
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
