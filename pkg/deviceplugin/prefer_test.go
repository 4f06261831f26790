package deviceplugin

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/multiplexer-cni/multiplexer/pkg/resource"
)

// placesOf reads devices, each written as its PF and a number: "a0 b1".
func placesOf(t *testing.T, text string) []place {
	t.Helper()
	where := map[byte]place{ // NUMA node and root
		'a': {numa: 0, root: "pci0000:10"}, 'b': {numa: 0, root: "pci0000:10"}, 'c': {numa: 0, root: "pci0000:20"},
		'd': {numa: 1, root: "pci0000:80"}, 'e': {numa: 1, root: "pci0000:90"}, 'f': {numa: -1, root: ""},
	}
	var list []place
	for _, name := range strings.Fields(text) {
		p, ok := where[name[0]]
		if !ok {
			t.Fatalf("no PF %q", name)
		}
		p.pf = fmt.Sprintf("0000:%02x:00.0", name[0])
		p.id = fmt.Sprintf("0000:%02x:%02x.%c", name[0], 1, name[1])
		list = append(list, p)
	}
	return list
}

func TestPrefer(t *testing.T) {
	const all = "a0 a1 a2 b0 b1 c0 c1 c2 c3 d0 d1 d2 e0 e1 e2 e3"
	for _, c := range []struct {
		policy          resource.Policy
		available, must string
		size            int
		want            string
	}{
		{resource.Pack, all, "", 1, "b0"},                             // the PF with the fewest that has enough
		{resource.Pack, all, "", 2, "b0 b1"},                          //
		{resource.Pack, all, "", 3, "a0 a1 a2"},                       //
		{resource.Pack, all, "", 4, "c0 c1 c2 c3"},                    //
		{resource.Pack, all, "", 6, "b0 b1 c0 c1 c2 c3"},              // the largest, then what just fits, near it
		{resource.Pack, all, "d1", 2, "d0 d1"},                        // the PF that is in use anyway
		{resource.Pack, all, "a0 d0", 4, "a0 a1 a2 d0"},               //
		{resource.Pack, all, "d0", 5, "d0 d1 d2 e0 e1"},               // and then one near it: e has four
		{resource.Pack, "a0 b0", "", 5, "a0 b0"},                      // less than asked for
		{"", all, "", 2, "b0 b1"},                                     // the default
		{resource.Spread, all, "", 2, "c0 a0"},                        // the fullest, then another of that node
		{resource.Spread, all, "", 5, "a0 b0 c0 d0 e0"},               // one each
		{resource.Spread, all, "", 6, "a0 b0 c0 c1 d0 e0"},            //
		{resource.Spread, all, "e0", 2, "d0 e0"},                      // NUMA-near among equals
		{resource.Spread, "a0 a1 a2", "a0", 3, "a0 a1 a2"},            // one PF only
		{resource.Spread, "a0 a1 b0", "a0", 2, "a0 b0"},               //
		{resource.Near, all, "", 2, "d0 d1"},                          // the node that just fits: 7 against 9; then its root
		{resource.Near, all, "", 8, "a0 a1 a2 b0 b1 c0 c1 c2"},        // one node is enough
		{resource.Near, all, "a0", 3, "a0 a1 a2"},                     // node, root and PF
		{resource.Near, all, "a0", 5, "a0 a1 a2 b0 b1"},               // the root of a and b
		{resource.Near, all, "e0", 2, "e0 e1"},                        //
		{resource.Near, "a0 f0 f1 f2", "", 2, "f0 f1"},                // a machine without nodes
		{resource.Near, all, "", 10, "a0 a1 a2 b0 b1 c0 c1 c2 c3 d0"}, //
		{resource.Pack, all, "a0 a1 a2", 2, "a0 a1"},                  // more than is asked for
		{resource.Pack, all, "", 0, ""},                               //
		{resource.Pack, "", "a0", 1, "a0"},                            //
	} {
		t.Run(fmt.Sprintf("%s %s + %s of %d", c.policy, c.must, c.available, c.size), func(t *testing.T) {
			var want []string
			for _, p := range inOrder(placesOf(t, c.want)) {
				want = append(want, p.id)
			}
			got := prefer(c.policy, placesOf(t, c.available), placesOf(t, c.must), c.size)
			if !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

// What kubelet relies on holds whatever is asked.
func TestPreferAlways(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // no secret
	var names []string
	for pf := 'a'; pf <= 'f'; pf++ {
		for n := range 8 {
			names = append(names, fmt.Sprintf("%c%d", pf, n))
		}
	}
	for range 800 {
		random.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		available := placesOf(t, strings.Join(names[:random.IntN(len(names))+1], " "))
		must := available[:random.IntN(len(available)+1)]
		size := len(must) + random.IntN(len(available)-len(must)+1)
		for _, policy := range []resource.Policy{resource.Pack, resource.Spread, resource.Near} {
			got := prefer(policy, available, must, size)
			shuffled := slices.Clone(available)
			random.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
			if again := prefer(policy, shuffled, must, size); !slices.Equal(got, again) {
				t.Fatalf("%s: %v and then %v", policy, got, again)
			}
			checkPreferred(t, policy, available, must, size, got)
		}
	}
}

func checkPreferred(t *testing.T, policy resource.Policy, available, must []place, size int, got []string) {
	t.Helper()
	if len(got) != size {
		t.Fatalf("%s: %d of %d devices", policy, len(got), size)
	}
	seen := map[string]bool{}
	for _, id := range got {
		if seen[id] || !slices.ContainsFunc(available, func(p place) bool { return p.id == id }) {
			t.Fatalf("%s: %s is there twice, or not available", policy, id)
		}
		seen[id] = true
	}
	for _, p := range must {
		if !seen[p.id] {
			t.Fatalf("%s: %s is missing", policy, p.id)
		}
	}
	if len(must) > 0 {
		return
	}
	pfs := map[string]int{}
	for _, id := range got {
		pfs[id[:7]]++
	}
	sizes := map[string]int{}
	for _, p := range available {
		sizes[p.id[:7]]++
	}
	switch policy {
	case resource.Pack:
		most, need := slices.SortedFunc(maps.Values(sizes), func(a, b int) int { return b - a }), 0
		for sum := 0; sum < size; need++ {
			sum += most[need]
		}
		if len(pfs) != need {
			t.Fatalf("%d PFs where %d do", len(pfs), need)
		}
	case resource.Spread:
		if len(pfs) != min(size, len(sizes)) {
			t.Fatalf("%d PFs for %d devices of %d PFs", len(pfs), size, len(sizes))
		}
	}
}
