package routing

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
)

// Whatever networks do, return and ask for, the rules hold. To run more, or
// other, worlds: MULTIPLEXER_WORLDS=20000 MULTIPLEXER_SEED=7 go test ...
func TestRulesHoldInRandomWorlds(t *testing.T) {
	seed, count := number(t, "MULTIPLEXER_SEED", 1), number(t, "MULTIPLEXER_WORLDS", defaultWorlds)
	const shards = 2
	for shard := range shards {
		t.Run(fmt.Sprint(shard), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(uint64(seed), uint64(shard)))
			failed := map[string]int{}
			for range count / shards {
				data := randomBytes(random)
				for _, p := range check(newWorld(data)) {
					if failed[p.name]++; failed[p.name] == 1 {
						explain(t, p.name, data)
					}
				}
			}
			if len(failed) > 0 {
				t.Errorf("seed %d, %d worlds: %v", seed, count/shards, failed)
			}
		})
	}
}

// number reads a variable of the environment.
func number(t *testing.T, name string, otherwise int) int {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		return otherwise
	}
	n, err := strconv.Atoi(value)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

func randomBytes(random *rand.Rand) []byte {
	data := make([]byte, random.IntN(160))
	for i := range data {
		data[i] = byte(random.Uint32())
	}
	return data
}

// explain shows the smallest world in which an invariant does not hold.
func explain(t *testing.T, name string, data []byte) {
	t.Helper()
	tries := 700 // it need not be the very smallest
	data = shrunk(data, func(data []byte) bool {
		tries--
		return tries > 0 && slices.ContainsFunc(check(newWorld(data)), func(p problem) bool { return p.name == name })
	})
	complain(t, newWorld(data), name)
	t.Logf("for testdata/fuzz/FuzzDecide: []byte(%q)", data)
}

// complain fails the test for what does not hold in a world: all of it, or
// one invariant.
func complain(t *testing.T, w *world, name string) {
	t.Helper()
	found := slices.DeleteFunc(check(w), func(p problem) bool { return name != "" && p.name != name })
	for _, p := range found[:min(3, len(found))] {
		t.Errorf("%s: %s", p.name, p.text)
	}
	if len(found) > 0 {
		t.Logf("in this world:\n%s", w)
	}
}

// shrunk takes away and makes smaller what is not needed for the failure.
func shrunk(data []byte, fails func([]byte) bool) []byte {
	for again := true; again; {
		again = false
		for size := max(1, len(data)/2); size > 0; size /= 2 {
			for at := 0; at+size <= len(data); at += max(1, size/3) {
				if less := smaller(data, at, size, fails); less != nil {
					data, again = less, true
				}
			}
		}
	}
	return data
}

// smaller returns a smaller world that fails too, or nothing.
func smaller(data []byte, at, size int, fails func([]byte) bool) []byte {
	less, zero, small := slices.Delete(slices.Clone(data), at, at+size), slices.Clone(data), slices.Clone(data)
	clear(zero[at : at+size])
	small[at] %= 12
	for _, try := range [][]byte{less, zero, small} {
		if !slices.Equal(try, data) && fails(try) {
			return try
		}
	}
	return nil
}
