package kubelet

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// ordered sorts the devices of one container and drops those told twice.
func ordered(devices []Device) []Device {
	slices.SortFunc(devices, func(a, b Device) int {
		return cmp.Or(cmp.Compare(a.Resource, b.Resource), compareIDs(a.ID, b.ID))
	})
	return slices.Compact(devices)
}

// compareIDs puts PCI addresses in the order of the bus, before all others.
func compareIDs(a, b string) int {
	pciA, isA := parsePCI(a)
	pciB, isB := parsePCI(b)
	switch {
	case isA && isB:
		return cmp.Or(slices.Compare(pciA[:], pciB[:]), cmp.Compare(a, b))
	case isA:
		return -1
	case isB:
		return 1
	}
	return cmp.Compare(a, b)
}

// parsePCI splits an address such as 0000:af:06.1 into domain, bus, device
// and function. A domain behind a VMD controller has more than four digits,
// so that addresses do not compare as strings.
func parsePCI(id string) (address [4]uint64, ok bool) {
	domain, rest, ok1 := strings.Cut(id, ":")
	bus, rest, ok2 := strings.Cut(rest, ":")
	device, function, ok3 := strings.Cut(rest, ".")
	if !ok1 || !ok2 || !ok3 || len(domain) < 4 || len(bus) != 2 || len(device) != 2 || len(function) != 1 {
		return address, false
	}
	for i, part := range []string{domain, bus, device, function} {
		n, err := strconv.ParseUint(part, 16, 32)
		if err != nil {
			return address, false
		}
		address[i] = n
	}
	return address, address[2] < 32 && address[3] < 8
}
