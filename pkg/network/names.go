package network

import (
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/utils"
)

// commaName is what the comma form of the annotation allows for names and
// namespaces (NPWG 4.1.1); kubeName is a Kubernetes object name, which may
// hold dots as well.
var (
	commaName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)
	kubeName  = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`)
)

// pluginType is a file name in CNI_PATH.
var pluginType = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.+-]*$`)

// MetaPlugin reports whether a plugin type is a meta-plugin's: one that calls
// other plugins for a whole pod. As a delegate it would attach the pod twice,
// or call us in a circle.
func MetaPlugin(pluginType string) bool {
	return slices.Contains([]string{"multiplexer", "multus", "multus-shim", "genie", "danm"}, pluginType)
}

// ValidateContainerID reports whether a container ID is fit to be a file
// name (CNI 1.1 section 2, CNI_CONTAINERID). Errors are of kind Environment.
func ValidateContainerID(id string) error {
	if err := utils.ValidateContainerID(id); err != nil {
		return Environment.Errorf("CNI_CONTAINERID %q: %s", clip(id), err.Msg)
	}
	if len(id) > 200 {
		return Environment.Errorf("CNI_CONTAINERID %q: %d characters, at most 200 make a file name", clip(id), len(id))
	}
	return nil
}

// ValidateInterface reports whether a name can be a kernel interface's (at
// most 15 bytes, no '/', ':' or space, not "." or ".."). NPWG 4.1.2.1.6. The
// kernel takes any bytes; names that are no text could not be written down.
func ValidateInterface(field, name string) error {
	if !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
		return Invalid.Errorf("%s %q: an interface name is text, without control characters", field, clip(name))
	}
	if err := utils.ValidateInterfaceName(name); err != nil {
		return Invalid.Errorf("%s %q: %s; an interface name has 1 to 15 characters, none of them '/', ':' or a space",
			field, clip(name), why(err))
	}
	return nil
}

// ValidateNetworkName reports whether a CNI network name is fit to be part
// of a path (CNI 1.1 section 1: alphanumeric first, then also _ . -).
func ValidateNetworkName(what, name string) error {
	if err := utils.ValidateNetworkName(name); err != nil {
		return Invalid.Errorf("%s: network name %q: %s", what, clip(name), why(err))
	}
	return nil
}

func validateCommaName(field, name string) error {
	if len(name) > 253 || !commaName.MatchString(name) {
		return Invalid.Errorf("%s %q: want lower-case letters, digits and '-', a letter or digit at both ends", field, clip(name))
	}
	return nil
}

func validateKubeName(field, name string) error {
	if len(name) > 253 || !kubeName.MatchString(name) || strings.Contains(name, "..") {
		return Invalid.Errorf("%s %q: want lower-case letters, digits, '-' and '.', a letter or digit at both ends", field, clip(name))
	}
	return nil
}

func why(err *types.Error) string {
	if err.Details != "" {
		return err.Msg + " (" + err.Details + ")"
	}
	return err.Msg
}

// clip keeps foreign text short enough for an error message.
func clip(s string) string {
	const most = 120
	if len(s) <= most {
		return s
	}
	return s[:most] + "..."
}

// ValidateNamespace reports whether a name can be a Kubernetes namespace's.
func ValidateNamespace(field, name string) error { return validateCommaName(field, name) }

// ValidateObjectName checks the name of a pod or a node, which may hold dots:
// a static pod's ends in its node's.
func ValidateObjectName(field, name string) error { return validateKubeName(field, name) }
