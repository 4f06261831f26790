package sriov

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// fromCNIArgs returns the pairs of CNI_ARGS.
func fromCNIArgs(args string) [][2]string {
	var pairs [][2]string
	for pair := range strings.SplitSeq(args, ";") {
		key, value, _ := strings.Cut(pair, "=")
		pairs = append(pairs, [2]string{key, value})
	}
	return pairs
}

// fromArgsCNI returns what a pod's annotation asks for in "cni-args": strings
// and numbers. "mac" is how CNI's conventions spell it.
func fromArgsCNI(args map[string]json.RawMessage) [][2]string {
	var pairs [][2]string
	for _, key := range []string{"mac", "MAC", "VF", "VLAN"} {
		raw, ok := args[key]
		if !ok {
			continue
		}
		text := string(raw)
		if unquoted, err := strconv.Unquote(text); err == nil {
			text = unquoted
		}
		pairs = append(pairs, [2]string{strings.ToUpper(key), text})
	}
	return pairs
}

// take lays what a pod asks for over the configuration. Keys of others are
// theirs.
func (c *Conf) take(pairs [][2]string) error {
	for _, pair := range pairs {
		key, value := pair[0], pair[1]
		switch key {
		case "MAC":
			c.MAC = value
		case "VF", "VLAN":
			n, err := strconv.Atoi(value)
			if err != nil {
				return network.Invalid.Errorf("sriov: %s %q in CNI_ARGS or in \"cni-args\" of the pod's annotation: want a whole number", key, clip(value))
			}
			if key == "VF" {
				c.VF = &n
			} else {
				c.VLAN = &n
			}
		}
	}
	return nil
}
