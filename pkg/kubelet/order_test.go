package kubelet

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestCompareIDs(t *testing.T) {
	want := []string{
		"0000:01:00.0", "0000:01:00.1", "0000:01:02.0", "0000:02:00.0", "0000:0A:00.0", "0000:0a:00.0", "0000:b0:1f.7", "ffff:00:00.0", "10000:01:00.0",
		"", "0000:01:00", "0000:01:00.8", "0000:01:00.g", "0000:01:20.0", "0000:1:00.0", "0000:zz:00.0", "000:01:00.0",
		"1000000000:01:00.0", "01:00.0", "GPU-1", "mlx5_core.sf.4", "net0",
	}
	slices.Sort(want[9:])
	for range 100 {
		got := slices.Clone(want)
		rand.Shuffle(len(got), func(i, j int) { got[i], got[j] = got[j], got[i] })
		slices.SortFunc(got, compareIDs)
		if !slices.Equal(want, got) {
			t.Fatalf("got  %q\nwant %q", got, want)
		}
	}
}
