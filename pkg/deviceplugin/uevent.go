package deviceplugin

import "bytes"

// concernsNICs reports whether a uevent of the kernel is about a network
// controller of the PCI bus, or about what its driver makes of it. Pods' veths
// are none.
func concernsNICs(message []byte) bool {
	header, variables, ok := bytes.Cut(message, []byte{0})
	_, path, named := bytes.Cut(header, []byte{'@'})
	if !ok || !named {
		return false
	}
	onPCI := bytes.Contains(path, []byte("/pci"))
	switch string(variable(variables, "SUBSYSTEM")) {
	case "net", "infiniband", "infiniband_verbs", "infiniband_mad", "uio":
		return onPCI
	case "vfio", "vfio-dev":
		return true
	case "pci":
		class := variable(variables, "PCI_CLASS") // hexadecimal, without the leading zero
		return len(class) == 0 || len(class) == len("20000") && class[0] == '2'
	}
	return false
}

// variable returns a variable of a uevent, nil if it is not there.
func variable(variables []byte, name string) []byte {
	for len(variables) > 0 {
		var one []byte
		one, variables, _ = bytes.Cut(variables, []byte{0})
		if key, value, ok := bytes.Cut(one, []byte{'='}); ok && string(key) == name {
			return value
		}
	}
	return nil
}
