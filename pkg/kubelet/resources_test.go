package kubelet

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/multiplexer-cni/multiplexer/internal/kubelettest"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// Whichever way a kubelet is asked, the same devices come in the same order.
func TestDevices(t *testing.T) {
	for name, get := range map[string]kubelettest.Get{
		"Get": kubelettest.GetServed, "gate off": kubelettest.GetGateOff, "no Get": kubelettest.GetUnimplemented,
	} {
		t.Run(name, func(t *testing.T) {
			k, r, log := start(t)
			k.SetGet(get)
			k.SetPod("shop", "web",
				kubelettest.Container{Name: "zebra", Devices: []kubelettest.Device{
					{Resource: "x/vf", ID: "10000:01:00.0"},
					{Resource: "x/vf", ID: "0000:af:06.1", NUMA: []int64{0, 1}},
					{Resource: "x/vf", ID: "0000:af:06.0"},
					{Resource: "x/gpu", ID: "GPU-1"},
					{Resource: "x/vf", ID: "uuid"},
				}},
				kubelettest.Container{Name: "plain"},
				one("apple", "x/vf", "0000:03:00.2", "0000:03:00.1", "0000:03:00.1"),
			)
			k.SetPod("shop", "plain", kubelettest.Container{Name: "c"})
			k.SetPod("other", "web", one("zebra", "x/vf", "0000:ff:00.0"))
			want := []Device{
				{"zebra", "x/gpu", "GPU-1"}, {"zebra", "x/vf", "0000:af:06.0"}, {"zebra", "x/vf", "0000:af:06.1"},
				{"zebra", "x/vf", "10000:01:00.0"}, {"zebra", "x/vf", "uuid"},
				{"apple", "x/vf", "0000:03:00.1"}, {"apple", "x/vf", "0000:03:00.2"},
			}
			for range 10 {
				got, err := r.Devices(within(t, patience), "shop", "web", "u")
				if diff := cmp.Diff(want, got); err != nil || diff != "" {
					t.Fatalf("%v\n%s", err, diff)
				}
			}
			got, err := r.Devices(within(t, patience), "shop", "plain", "u")
			if err != nil || len(got) != 0 {
				t.Errorf("a pod without devices: %v, %v", got, err)
			}
			if log.Len() > 0 {
				t.Errorf("logged: %s", log)
			}
		})
	}
}

func TestUnknownPod(t *testing.T) {
	k, r, _ := start(t)
	r.Checkpoint = "/nowhere" // not read: kubelet answered
	for _, get := range []kubelettest.Get{kubelettest.GetServed, kubelettest.GetGateOff} {
		k.SetGet(get)
		got, err := r.Devices(within(t, patience), "shop", "web", "u")
		if !errors.Is(err, network.Again) || !strings.Contains(err.Error(), "does not know pod shop/web") || strings.Contains(err.Error(), "nowhere") {
			t.Errorf("%v, %v", got, err)
		}
	}
}

// A pod that was made anew under its name is never given the devices of the
// earlier one.
func TestPodMadeAnew(t *testing.T) {
	k, r, _ := start(t)
	k.SetEarlierPod("shop", "web", one("c", "x/vf", "0000:01:00.1"))
	k.SetPod("shop", "web", one("c", "x/vf", "0000:01:00.2"))
	want := []Device{{"c", "x/vf", "0000:01:00.2"}}
	got, err := r.Devices(within(t, patience), "shop", "web", "u")
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("Get goes by the name: %v\n%s", err, diff)
	}
	k.SetGet(kubelettest.GetGateOff)
	if got, err = r.Devices(within(t, patience), "shop", "web", "u"); !errors.Is(err, network.Again) || !strings.Contains(err.Error(), "two pods") {
		t.Errorf("List tells both: %v, %v", got, err)
	}
	// Now Get does not find the new one.
	k.RequireRestart(t)
	k.SetGet(kubelettest.GetServed)
	k.RemoveEarlierPod("shop", "web")
	got, err = r.Devices(within(t, patience), "shop", "web", "u")
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("Get has forgotten the name: %v\n%s", err, diff)
	}
}

// That a kubelet has no Get is remembered until it is restarted, and that a
// pod was not found is not taken for it.
func TestGetIsRemembered(t *testing.T) {
	k, r, _ := start(t)
	k.SetPod("shop", "web", one("c", "x/vf", "0000:01:00.1"))
	ask := func(pod string) {
		if _, err := r.Devices(within(t, patience), "shop", pod, "u"); err != nil && pod == "web" {
			t.Fatal(err)
		}
	}
	ask("web")
	ask("disabled") // no such pod
	if r.noGet.Load() == r.dials.Load() {
		t.Error("Get is given up without a reason")
	}
	for _, get := range []kubelettest.Get{kubelettest.GetGateOff, kubelettest.GetUnimplemented} {
		k.SetGet(get)
		ask("web")
		if r.noGet.Load() != r.dials.Load() {
			t.Error("Get is not given up")
		}
		k.RequireRestart(t)
		k.SetGet(kubelettest.GetServed)
		ask("web")
		ask("web")
		if r.noGet.Load() == r.dials.Load() {
			t.Error("Get is still given up after a restart")
		}
	}
}

// Many pods that start at once get through kubelet's rate limit.
func TestManyAtOnce(t *testing.T) {
	k, r, _ := start(t)
	k.SetGet(kubelettest.GetGateOff) // two requests for some
	const pods = 60
	var asked sync.WaitGroup
	for i := range pods {
		name, id := fmt.Sprintf("web-%d", i), fmt.Sprintf("0000:%02x:00.1", i)
		k.SetPod("shop", name, one("c", "x/vf", id))
		asked.Go(func() {
			got, err := r.Devices(within(t, patience), "shop", name, "u")
			if err != nil || len(got) != 1 || got[0].ID != id {
				t.Errorf("%s: %v, %v", name, got, err)
			}
		})
	}
	asked.Wait()
}
