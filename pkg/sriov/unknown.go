package sriov

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
)

// unknown returns the keys of a configuration that nobody reads: most are
// misspelt. Keys of CNI itself and of the meta-plugin are not among them.
func unknown(stdin []byte) []string {
	// pciBusID is the agent's word for other plugins; deviceID says the same.
	known := []string{"pciBusID", "capabilities", "dns", "prevResult", "disableCheck", "disableGC", "cniVersions"}
	conf := reflect.TypeFor[Conf]()
	for i := range conf.NumField() {
		known = append(known, conf.Field(i).Tag.Get("json"))
	}
	var keys map[string]json.RawMessage
	_ = json.Unmarshal(stdin, &keys) // it was read before
	var out []string
	for key := range keys {
		is := func(k string) bool { return strings.EqualFold(k, key) }
		// With a dot, a slash or in front of an underscore: an extension, or a comment.
		if !slices.ContainsFunc(known, is) && !slices.ContainsFunc(inertKeys(), is) && !strings.ContainsAny(key, "./_") {
			out = append(out, key)
		}
	}
	slices.Sort(out)
	return out
}

// inertKeys are those that are refused where they say something, and that
// sriov-cni's own records have.
func inertKeys() []string {
	keys := []string{"VFID", "OrigVfState"}
	for _, r := range unsupportedKeys() {
		keys = append(keys, r.key)
	}
	return keys
}
