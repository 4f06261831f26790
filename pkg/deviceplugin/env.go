package deviceplugin

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/multiplexer-cni/multiplexer/pkg/resource"
)

// envNames are the names of the variable that lists a resource's devices: as
// sriov-network-device-plugin has it, and one that a shell can read where that
// is another. The file of all devices' information has "_INFO" behind it.
func envNames(resourceName string) []string {
	name := resource.EnvName(resourceName)
	if safe := strings.ReplaceAll(name, "-", "_"); safe != name {
		return []string{name, safe}
	}
	return []string{name}
}

// collisions says which resources give a container variables of the same name
// for shells. Those whose very names collide are told of by resource.Parse.
func collisions(config *resource.Config) []resource.Problem {
	var problems []resource.Problem
	owner := map[string]string{}
	for i := range config.Resources {
		name := config.Resources[i].Name
		for _, env := range envNames(name) {
			other := owner[env]
			if other != "" && resource.EnvName(other) != resource.EnvName(name) {
				problems = append(problems, resource.Problem{Source: config.Source, Resource: name, Key: "resourceName",
					Text: fmt.Sprintf("a container with this resource and %s gets one variable %s for both: rename one", other, env)})
			}
			if other == "" {
				owner[env] = name
			}
		}
	}
	return problems
}

// given is a device as a container gets it.
type given struct {
	pci   string
	nodes []node
	rdma  []string
	extra map[string]string
}

// env returns the variables for the devices of one container, which are in
// PCI order.
func env(resourceName string, devices []given) (map[string]string, error) {
	ids := make([]string, 0, len(devices))
	info := map[string]map[string]any{}
	for i := range devices {
		ids = append(ids, devices[i].pci)
		info[devices[i].pci] = devices[i].info()
	}
	text, err := json.Marshal(info)
	if err != nil {
		return nil, fmt.Errorf("encode the information about devices of %s: %w", resourceName, err)
	}
	vars := map[string]string{}
	for _, name := range envNames(resourceName) {
		vars[name], vars[name+"_INFO"] = strings.Join(ids, ","), string(text)
	}
	return vars, nil
}

// info is what the variable _INFO says of one device.
func (g *given) info() map[string]any {
	parts := map[string]any{"generic": map[string]string{"deviceID": g.pci}}
	add := func(part, key, value string) {
		values, ok := parts[part].(map[string]string)
		if !ok {
			values = map[string]string{}
			parts[part] = values
		}
		values[key] = value
	}
	for _, n := range g.nodes {
		add(n.part, n.key, n.Container)
	}
	if len(g.rdma) > 0 {
		add("rdma", "rdma_dev", strings.Join(g.rdma, ","))
	}
	if len(g.extra) > 0 {
		parts["extra"] = g.extra
	}
	return parts
}

// extra is what the configuration adds about a device: what it says of that
// one goes before what it says of all.
func extra(r *resource.Resource, pci string) map[string]string {
	merged := maps.Clone(r.AdditionalInfo["*"])
	for key, value := range r.AdditionalInfo[pci] {
		if merged == nil {
			merged = map[string]string{}
		}
		merged[key] = value
	}
	return merged
}

// sortedKeys are the keys of a map, sorted.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
