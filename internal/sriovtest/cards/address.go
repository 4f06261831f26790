package cards

import "fmt"

// address is a PCI address: devfn holds device and function, as the kernel
// counts them.
type address struct{ domain, bus, devfn int }

func parsePCI(text string) address {
	var a address
	var device, function int
	n, err := fmt.Sscanf(text, "%x:%x:%x.%x", &a.domain, &a.bus, &device, &function)
	a.devfn = device<<3 | function
	if n != 4 || a.String() != text {
		panic(fmt.Sprintf("cards: PCI %q: %v; want an address such as 0000:17:00.0", text, err))
	}
	return a
}

func (a address) String() string {
	return fmt.Sprintf("%04x:%02x:%02x.%x", a.domain, a.bus, a.devfn>>3, a.devfn&7)
}

// vf returns the address of a PF's VF: the VFs of a card's ports follow each
// other, or take turns with a stride, and go on to the next bus.
func (f *function) vf(index int) address {
	at := parsePCI(f.pci)
	first := f.offset + at.devfn*f.total
	if f.stride > 1 {
		first = f.offset + at.devfn
	}
	number := at.bus<<8 + first + index*f.stride
	return address{domain: at.domain, bus: number >> 8, devfn: number & 0xff}
}
