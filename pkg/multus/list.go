package multus

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// delegate is what counts here of one element of Multus's list
// (DelegateNetConf). Bytes is the network's configuration, in base64.
type delegate struct {
	Name  string
	Bytes []byte
	// ConfigList is what a conflist's file and the folder beside it had. The
	// versions 4.2.1 to 4.3.0 keep it, and then Bytes has of each plugin only the
	// keys that all plugins have in common.
	ConfigList struct {
		Name, CNIVersion        string
		DisableCheck, DisableGC bool
		Plugins                 []struct{ Bytes []byte }
	} `json:"CNINetworkConfigList"`
	IfnameRequest         string   `json:"ifnameRequest"`
	MacRequest            string   `json:"macRequest"`
	InfinibandGUIDRequest string   `json:"infinibandGUIDRequest"`
	IPRequest             []string `json:"ipRequest"`
	DeviceID              string   `json:"deviceID"`
	ResourceName          string   `json:"resourceName"`
}

// readList reads a container's delegates; none and no error: there is no list.
func readList(path string) ([]delegate, error) {
	raw, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, network.IO.Errorf("the record of Multus: %w", err)
	}
	return parseList(path, raw)
}

func parseList(path string, raw []byte) ([]delegate, error) {
	var list []delegate
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, network.Malformed.Errorf("the record %s of Multus: want a JSON list of its delegates: %w", path, err)
	}
	if len(list) == 0 {
		return nil, network.Malformed.Errorf("the record %s of Multus names no delegate", path)
	}
	return list, nil
}

// ifname is the interface that Multus gave to its i-th delegate: the one that
// was asked for, the runtime's for the first, else net and the position.
func (d *delegate) ifname(i int, runtimes string) string {
	switch {
	case d.IfnameRequest != "":
		return d.IfnameRequest
	case i == 0:
		return runtimes
	}
	return fmt.Sprintf("net%d", i)
}

// attachment is the delegate as the list alone has it.
func (d *delegate) attachment(i int, path string, call *Call) (*Attachment, error) {
	source := fmt.Sprintf("delegate %d of the record %s of Multus", i, path)
	list, err := d.list(source)
	if err != nil {
		return nil, err
	}
	a := &Attachment{Attachment: network.Attachment{
		List: *list, Reference: d.Name, Source: path, IfName: d.ifname(i, call.IfName), Cluster: i == 0,
		Args: call.Args, CapabilityArgs: d.capabilities(i, call), Resource: d.ResourceName, DeviceID: d.DeviceID,
	}}
	if a.Reference == "" {
		a.Reference = list.Name
	}
	return a, a.validate(source)
}

// list is the delegate's configuration as its ADD used it.
func (d *delegate) list(source string) (*network.List, error) {
	whole := &d.ConfigList
	if len(whole.Plugins) == 0 {
		return network.ParseList(source, "", d.Bytes)
	}
	conflist := map[string]any{
		"name": whole.Name, "cniVersion": whole.CNIVersion, "disableCheck": whole.DisableCheck, "disableGC": whole.DisableGC,
	}
	plugins := make([]json.RawMessage, len(whole.Plugins))
	for i := range whole.Plugins {
		plugins[i] = whole.Plugins[i].Bytes
	}
	conflist["plugins"] = plugins
	raw, err := json.Marshal(conflist)
	if err != nil {
		return nil, network.Malformed.Errorf("%s: its plugins: %w", source, err)
	}
	return network.ParseList(source, "", raw)
}

// capabilities are the arguments as Multus puts them together at its own DEL:
// the runtime's for every delegate, and over them, but for the first, what the
// pod's author asked for. Which of them a plugin gets, its configuration says.
func (d *delegate) capabilities(i int, call *Call) map[string]json.RawMessage {
	args := maps.Clone(call.RuntimeConfig)
	if i == 0 {
		return args
	}
	if args == nil {
		args = map[string]json.RawMessage{}
	}
	delete(args, network.PodAnnotations) // Multus does not know it
	for name, value := range map[string]any{
		"ips": d.IPRequest, "mac": d.MacRequest, "infinibandGUID": d.InfinibandGUIDRequest, "deviceID": d.DeviceID,
	} {
		raw, err := json.Marshal(value)
		if s := string(raw); err == nil && s != `""` && s != "null" && s != "[]" {
			args[name] = raw
		}
	}
	return args
}
