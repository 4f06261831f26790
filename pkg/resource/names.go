package resource

import (
	"regexp"
	"strings"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// EnvName returns the environment variable that tells a container which
// devices of a resource it has: PCIDEVICE_INTEL_COM_SRIOV.
func EnvName(resource string) string {
	return "PCIDEVICE_" + strings.ToUpper(strings.NewReplacer(".", "_", "/", "_").Replace(resource))
}

// name returns a resource's full name, "" if it is refused. kubelet's rules
// for extended resources are stricter than the device plugin's.
func (at place) name(f fields) string {
	before := at.refusals
	name, prefix := at.text(f, "resourceName"), at.text(f, "resourcePrefix")
	whose := ""
	if prefix == "" {
		prefix, whose = at.prefix, " (the default, as the resource has no resourcePrefix)"
	}
	if at.refusals > before {
		return ""
	}
	switch {
	case name == "":
		at.in("resourceName").refuse("is missing: name the resource, with letters, digits, '_' and '-'")
	case len(name) > 63 || !regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?$`).MatchString(name):
		at.in("resourceName").refuse("%s: want at most 63 letters, digits, '_' and '-', a letter or digit first and last", quote(name))
	}
	// kubelet puts "requests." before it and wants a DNS name still.
	const most = 253 - len("requests.")
	switch {
	case len(prefix) > most || !regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`).MatchString(prefix):
		at.in("resourcePrefix").refuse("%s%s: want a DNS name in lower case such as intel.com, at most %d characters", quote(prefix), whose, most)
	case strings.HasSuffix(prefix, "kubernetes.io"):
		at.in("resourcePrefix").refuse("%s%s: kubelet takes no resources of kubernetes.io: use a domain of your own", quote(prefix), whose)
	case strings.HasPrefix(prefix, "requests."):
		at.in("resourcePrefix").refuse("%s%s: kubelet keeps names that begin with \"requests.\" for quotas: use another domain", quote(prefix), whose)
	}
	// The device's information, and its file while it is written, is named by both.
	const fits = 255 - len("-10000:00:00.0-device.json.tmp")
	if full := prefix + "/" + name; len(full) > fits {
		at.in("resourceName").refuse("%s has %d characters with its prefix, at most %d fit in the name of a file: shorten one of them", quote(name), len(full), fits)
	}
	if at.refusals > before {
		return ""
	}
	return prefix + "/" + name
}

// The checks return a value's proper form, or what it should be.

func hexID(value string) (proper, want string) {
	lower := strings.TrimPrefix(strings.ToLower(value), "0x")
	if !regexp.MustCompile(`^[0-9a-f]{4}$`).MatchString(lower) {
		return "", `four hexadecimal digits such as "8086"`
	}
	return lower, ""
}

func driverName(value string) (proper, want string) {
	if len(value) > 64 || !regexp.MustCompile(`^[A-Za-z0-9_-]+$`).MatchString(value) {
		return "", `a driver's name such as "vfio-pci", as in /sys/bus/pci/drivers`
	}
	return value, ""
}

func pciAddress(value string) (proper, want string) {
	proper, err := sriov.NormalPCI("", value)
	if err != nil {
		return "", `a PCI address such as "0000:01:10.0" (domain:bus:device.function)`
	}
	return proper, ""
}

func acpiIndex(value string) (proper, want string) {
	if !regexp.MustCompile(`^[0-9]{1,10}$`).MatchString(value) {
		return "", `a number such as "101", as in the device's acpi_index`
	}
	return value, ""
}

func linkType(value string) (proper, want string) {
	lower := strings.ToLower(value)
	if lower != "ether" && lower != "infiniband" {
		return "", `"ether" or "infiniband"`
	}
	return lower, ""
}

func interfaceName(value string) (proper, want string) {
	if network.ValidateInterface("", value) != nil {
		return "", `the name of a network device such as "ens1f0"`
	}
	return value, ""
}
