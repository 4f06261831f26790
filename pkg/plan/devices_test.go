package plan

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

func anyOf(who, resource string) Want { return Want{Who: who, Resource: resource} }

func byID(who, resource, id string) Want {
	return Want{Who: who, Resource: resource, Choice: network.DeviceChoice{ID: id}}
}

func byContainer(who, resource, container string) Want {
	return Want{Who: who, Resource: resource, Choice: network.DeviceChoice{Container: container}}
}

// Three of resource r (two of container app, one of log), one of s.
var podsDevices = []Device{{"app", "r", "1"}, {"app", "r", "2"}, {"app", "s", "9"}, {"log", "r", "3"}}

func TestPair(t *testing.T) {
	for _, c := range []struct {
		name  string
		wants []Want
		ids   []string
	}{
		{"nothing wanted", nil, nil},
		{"no resource, no device", []Want{anyOf("a", ""), anyOf("b", "r")}, []string{"", "1"}},
		{"in the wants' order", []Want{anyOf("a", "r"), anyOf("b", "s"), anyOf("c", "r"), anyOf("d", "r")}, []string{"1", "9", "2", "3"}},
		{"an ID before a container and the rest", []Want{anyOf("a", "r"), byContainer("b", "r", "app"), byID("c", "r", "1")}, []string{"3", "2", "1"}},
		{"a container before the rest", []Want{anyOf("a", "r"), anyOf("b", "r"), byContainer("c", "r", "app")}, []string{"2", "3", "1"}},
		{"containers in order", []Want{byContainer("a", "r", "app"), byContainer("b", "r", "log"), byContainer("c", "r", "app")}, []string{"1", "3", "2"}},
		{"an ID without a resource", []Want{anyOf("a", "r"), byID("b", "", "1"), byID("c", "", "9")}, []string{"2", "1", "9"}},
		{"an ID of a container", []Want{{Who: "a", Resource: "r", Choice: network.DeviceChoice{Container: "log", ID: "3"}}}, []string{"3"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			given, err := Pair("ns/pod", c.wants, podsDevices)
			if err != nil {
				t.Fatal(err)
			}
			var ids []string
			for _, d := range given {
				ids = append(ids, d.ID)
				if d.ID != "" && !slices.Contains(podsDevices, d) {
					t.Errorf("%+v is none of the pod's", d)
				}
			}
			if diff := cmp.Diff(c.ids, ids); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A device that two containers hold, or that two resources offer, is one.
func TestPairSharedDevice(t *testing.T) {
	shared := []Device{{"init", "r", "1"}, {"app", "r", "1"}, {"app", "s", "1"}, {"app", "r", "2"}, {"app", "r", ""}}
	given, err := Pair("ns/pod", []Want{anyOf("a", "r"), anyOf("b", "r")}, shared)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Device{{"init", "r", "1"}, {"app", "r", "2"}}, given); diff != "" {
		t.Error(diff)
	}
	given, err = Pair("ns/pod", []Want{{Who: "a", Choice: network.DeviceChoice{Container: "app", ID: "1"}}}, shared)
	if err != nil || given[0] != shared[1] {
		t.Errorf("%+v, %v", given, err)
	}
	for _, wants := range [][]Want{
		{anyOf("a", "r"), anyOf("b", "r"), anyOf("c", "r")},
		{byContainer("a", "r", "init"), byID("b", "", "1")},
	} {
		if given, err = Pair("ns/pod", wants, shared); !errors.Is(err, network.Invalid) {
			t.Errorf("%+v: %+v, %v", wants, given, err)
		}
	}
}

// A PCI address is one device under every resource; other IDs are a
// resource's own.
func TestPairAcrossResources(t *testing.T) {
	wants := []Want{anyOf("a", "r"), anyOf("b", "s")}
	opaque := []Device{{"app", "r", "0"}, {"app", "s", "0"}}
	given, err := Pair("ns/pod", wants, opaque)
	if diff := cmp.Diff(opaque, given); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	given, err = Pair("ns/pod", wants, []Device{{"app", "r", pciDevice(1)}, {"app", "s", pciDevice(1)}})
	if !errors.Is(err, network.Invalid) {
		t.Errorf("one device twice: %+v, %v", given, err)
	}
}

func TestPairRefuses(t *testing.T) {
	const first = `network "shop/a"`
	const second = `network "shop/b"`
	one := []Device{{"app", "intel.com/sriov", "0000:3b:02.1"}}
	for _, c := range []struct {
		name    string
		wants   []Want
		devices []Device
		want    string
	}{
		{"not enough", []Want{anyOf(first, "intel.com/sriov"), anyOf(second, "intel.com/sriov")}, one,
			`pod shop/web: network "shop/b" needs a device of "intel.com/sriov": the pod has 1 (0000:3b:02.1 of container app: taken by network "shop/a"); ask for 2 of it in the pod's resources`},
		{"several too few", []Want{byID("a", "", "1"), anyOf("b", "r"), anyOf("c", "r"), anyOf("d", "r"), anyOf("e", "r"), anyOf("f", "s")}, podsDevices,
			`pod shop/web: d needs a device of "r": the pod has 3 (1 of container app: taken by a; 2 of container app: taken by b; 3 of container log: taken by c); ask for 5 of it in the pod's resources`},
		{"none at all", []Want{anyOf(first, "intel.com/sriov"), anyOf(second, "intel.com/sriov")}, podsDevices,
			`pod shop/web: network "shop/a" needs a device of "intel.com/sriov": the pod has none; ask for it in a container's resources.limits ("intel.com/sriov": 2), and see that the resource's device plugin runs on the node`},
		{"none at all, of a container", []Want{byContainer("a", "t", "app")}, nil,
			`pod shop/web: a needs a device of "t": the pod has none; ask for it in container "app"'s resources.limits ("t": 1), and see that the resource's device plugin runs on the node`},
		{"not enough of a container", []Want{byContainer("a", "r", "log"), byContainer("b", "r", "log")}, podsDevices,
			`pod shop/web: b needs a device of "r" of container "log": the container has 1, the pod 3 (1 of container app; 2 of container app; 3 of container log: taken by a); ask for 2 of it in the container's resources, or choose another container`},
		{"no such container", []Want{byContainer("a", "s", "ap")}, podsDevices,
			`pod shop/web: a needs a device of "s" of container "ap": the container has 0, the pod 1 (9 of container app); ask for 1 of it in the container's resources, or choose another container`},
		{"a container without a resource", []Want{byContainer("a", "", "app")}, podsDevices,
			`pod shop/web: a asks for a device of container "app", and its definition does not say of which resource: annotate the definition with k8s.v1.cni.cncf.io/resourceName, or choose the device by its "id"`},
		{"another pod's device", []Want{byID("a", "", "0000:3b:02.7")}, podsDevices[2:],
			`pod shop/web: a asks for device "0000:3b:02.7", which is none of the pod's 2 (9 (s) of container app; 3 (r) of container log): choose one of these, or remove the choice`},
		{"no devices", []Want{byID("a", "r", "1")}, nil,
			`pod shop/web: a asks for device "1", and kubelet gave the pod no devices at all: ask for the resource in a container's resources.limits, or remove the choice`},
		{"of another resource", []Want{byID("a", "r", "9")}, podsDevices,
			`pod shop/web: a needs a device of resource "r", and "9", which it asks for, is 9 (s) of container app: choose another, or correct the choice or the definition's resourceName`},
		{"of another container", []Want{{Who: "a", Resource: "r", Choice: network.DeviceChoice{Container: "app", ID: "3"}}}, podsDevices,
			`pod shop/web: a needs a device of resource "r" of container "app", and "3", which it asks for, is 3 (r) of container log: choose another, or correct the choice or the definition's resourceName`},
		{"a shared device counts once", []Want{anyOf("a", "r"), anyOf("b", "r")}, []Device{{"init", "r", "1"}, {"app", "r", "1"}},
			`pod shop/web: b needs a device of "r": the pod has 1 (1 of container init: taken by a); ask for 2 of it in the pod's resources`},
		{"others' needs are not the container's", []Want{anyOf("a", "r"), byContainer("b", "s", "app"), byContainer("c", "s", "app"), anyOf("d", "s"), byContainer("e", "s", "log")}, podsDevices,
			`pod shop/web: c needs a device of "s" of container "app": the container has 1, the pod 1 (9 of container app: taken by b); ask for 2 of it in the container's resources, or choose another container`},
		{"twice", []Want{byID("a", "r", "2"), byID("b", "", "2")}, podsDevices,
			`pod shop/web: a and b both ask for device "2"; give one of them another`},
	} {
		t.Run(c.name, func(t *testing.T) {
			given, err := Pair("shop/web", c.wants, c.devices)
			if !errors.Is(err, network.Invalid) || given != nil {
				t.Fatalf("%+v, %v", given, err)
			}
			if diff := cmp.Diff(c.want, err.Error()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Random pods: what Pair gives is right, and the same as the rules say when
// they are applied literally; where each device is listed once, it refuses
// only what nobody could pair.
func TestPairRandom(t *testing.T) {
	for seed := range uint64(30000) {
		r := rand.New(rand.NewPCG(seed, 1))
		unique := r.IntN(2) == 0
		wants, devices := randomWants(r), randomDevices(r, unique)
		given, err := Pair("ns/pod", wants, devices)
		want := literal(wants, devices)
		switch {
		case err != nil:
			if !errors.Is(err, network.Invalid) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if want != nil {
				t.Fatalf("seed %d: %+v of %+v refused (%v), want %+v", seed, wants, devices, err, want)
			}
			if unique && possible(wants, devices, nil) {
				t.Fatalf("seed %d: %+v of %+v can be paired: %v", seed, wants, devices, err)
			}
		default:
			sound(t, seed, wants, devices, given)
			if diff := cmp.Diff(want, given); diff != "" {
				t.Fatalf("seed %d: %+v of %+v:\n%s", seed, wants, devices, diff)
			}
		}
		if t.Failed() {
			return
		}
	}
}

func randomWants(r *rand.Rand) []Want {
	wants := make([]Want, r.IntN(5))
	for i := range wants {
		wants[i] = anyOf(fmt.Sprintf("w%d", i), []string{"", "r", "r", "s"}[r.IntN(4)])
		if r.IntN(3) == 0 {
			wants[i].Choice.Container = []string{"app", "log"}[r.IntN(2)]
		}
		if r.IntN(3) == 0 {
			wants[i].Choice.ID = pciDevice(r.IntN(4))
		}
	}
	return wants
}

func pciDevice(n int) string { return fmt.Sprintf("0000:3b:02.%d", n) }

func randomDevices(r *rand.Rand, unique bool) []Device {
	devices := make([]Device, r.IntN(7))
	for i := range devices {
		id := pciDevice(i)
		if !unique {
			id = pciDevice(r.IntN(4))
		}
		devices[i] = Device{[]string{"app", "log"}[r.IntN(2)], []string{"r", "r", "s"}[r.IntN(3)], id}
	}
	return devices
}

// sound checks a pairing against what users are promised.
func sound(t *testing.T, seed uint64, wants []Want, devices, given []Device) {
	t.Helper()
	takers := map[string]string{}
	for i, w := range wants {
		d := given[i]
		if (d.ID == "") != (w.Resource == "" && w.Choice == network.DeviceChoice{}) {
			t.Errorf("seed %d: %+v got %+v", seed, w, d)
		}
		if d.ID == "" {
			continue
		}
		if !slices.Contains(devices, d) {
			t.Errorf("seed %d: %+v got %+v, none of the pod's", seed, w, d)
		}
		if other, twice := takers[d.ID]; twice {
			t.Errorf("seed %d: %s and %s got %s", seed, other, w.Who, d.ID)
		}
		takers[d.ID] = w.Who
		if (w.Resource != "" && d.Resource != w.Resource) || (w.Choice.ID != "" && d.ID != w.Choice.ID) ||
			(w.Choice.Container != "" && d.Container != w.Choice.Container) {
			t.Errorf("seed %d: %+v got %+v", seed, w, d)
		}
	}
}

// literal pairs by the rules: sort the wants by how much they say, keep
// their order otherwise, and give each the first device that is left. nil =
// not possible so.
func literal(wants []Want, devices []Device) []Device {
	rank := func(i int) int {
		switch {
		case wants[i].Choice.ID != "":
			return 0
		case wants[i].Choice.Container != "":
			return 1
		}
		return 2
	}
	var order []int
	for i := range wants {
		order = append(order, i)
	}
	slices.SortStableFunc(order, func(a, b int) int { return rank(a) - rank(b) })
	given, left := make([]Device, len(wants)), slices.Clone(devices)
	for _, i := range order {
		w := wants[i]
		if rank(i) == 2 && w.Resource == "" {
			continue
		}
		at := slices.IndexFunc(left, func(d Device) bool { return may(w, d) })
		if at < 0 {
			return nil
		}
		given[i] = left[at]
		left = slices.DeleteFunc(left, func(d Device) bool { return d.ID == given[i].ID })
	}
	return given
}

func may(w Want, d Device) bool {
	switch {
	case w.Choice.Container != "" && w.Choice.Container != d.Container:
		return false
	case w.Choice.ID != "":
		return d.ID == w.Choice.ID && (w.Resource == "" || w.Resource == d.Resource)
	}
	return w.Resource != "" && w.Resource == d.Resource
}

// possible tries every pairing.
func possible(wants []Want, devices []Device, used []string) bool {
	if len(wants) == 0 {
		return true
	}
	w := wants[0]
	if w.Resource == "" && w.Choice == (network.DeviceChoice{}) {
		return possible(wants[1:], devices, used)
	}
	for _, d := range devices {
		if may(w, d) && !slices.Contains(used, d.ID) && possible(wants[1:], devices, append(slices.Clone(used), d.ID)) {
			return true
		}
	}
	return false
}
