package network

import (
	"bytes"
	"encoding/json"
	"strings"
)

// Sets reports whether the list itself asks for a setting of an interface:
// `key` is below /proc/sys/net, such as "ipv6/conf/net1/accept_ra". Settings
// are written as the plugin "tuning" reads them: an object "sysctl", also in
// args.cni, with IFNAME for the interface.
func (l *List) Sets(ifname, key string) bool {
	for _, raw := range l.Plugins {
		if !bytes.Contains(raw, []byte(`"sysctl"`)) {
			continue
		}
		var plugin struct {
			Sysctl map[string]json.RawMessage `json:"sysctl"`
			Args   struct {
				CNI struct {
					Sysctl map[string]json.RawMessage `json:"sysctl"`
				} `json:"cni"`
			} `json:"args"`
		}
		if json.Unmarshal(raw, &plugin) != nil {
			continue // another plugin's key of that name: not ours to judge
		}
		for _, settings := range []map[string]json.RawMessage{plugin.Sysctl, plugin.Args.CNI.Sysctl} {
			for name := range settings {
				path := strings.Replace(strings.ReplaceAll(name, ".", "/"), "IFNAME", ifname, 1)
				if path == "net/"+key {
					return true
				}
			}
		}
	}
	return false
}
