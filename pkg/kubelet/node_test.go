package kubelet

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/multiplexer-cni/multiplexer/internal/kubelettest"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// What the node's device plugins advertise, by resource; a kubelet that is too
// old says so by its kind of error.
func TestAdvertised(t *testing.T) {
	k, r, _ := start(t)
	k.SetAdvertised(
		kubelettest.Device{Resource: "x/vf", ID: "0000:af:06.1", NUMA: []int64{0, 1}},
		kubelettest.Device{Resource: "x/gpu", ID: "GPU-1"},
		kubelettest.Device{Resource: "x/vf", ID: "0000:af:06.0"},
	)
	got, err := r.Advertised(within(t, patience))
	for resource, ids := range got {
		slices.Sort(ids)
		got[resource] = slices.Compact(ids) // one for each NUMA node
	}
	want := map[string][]string{"x/vf": {"0000:af:06.0", "0000:af:06.1"}, "x/gpu": {"GPU-1"}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	k.SetGet(kubelettest.GetUnimplemented)
	if _, err = r.Advertised(within(t, patience)); !errors.Is(err, network.Unsupported) {
		t.Errorf("an old kubelet: %v", err)
	}
	if err = k.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err = r.Advertised(within(t, patience)); !errors.Is(err, network.Again) {
		t.Errorf("no kubelet: %v", err)
	}
}

// Which pod has which device.
func TestHolders(t *testing.T) {
	k, r, _ := start(t)
	k.SetPod("shop", "web", one("a", "x/vf", "0000:af:06.0"), one("b", "x/vf", "0000:af:06.1"))
	k.SetPod("other", "db", one("a", "x/vf", "0000:af:06.2"))
	got, err := r.Holders(within(t, patience))
	want := map[string]string{"0000:af:06.0": "shop/web", "0000:af:06.1": "shop/web", "0000:af:06.2": "other/db"}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}
