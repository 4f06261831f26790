package resource

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// maxFile is a ConfigMap's own limit.
const maxFile = 1 << 20

// Parse reads the file. `source` is its name for messages, `prefix` what
// resources without a resourcePrefix get. The format is
// sriov-network-device-plugin's, with `allocation` and `pfs` of our own.
//
// What is wrong with a part is in problems; the part is left out if it could
// not be served as it is meant. In particular a selector's key that is not
// known is never passed over, for without it the selector takes more devices.
// An error says that nothing can be served; it is Malformed or Invalid.
func Parse(source string, raw []byte, prefix string) (config *Config, problems []Problem, err error) {
	found, strays, err := top(source, raw)
	if err != nil {
		return nil, nil, err
	}
	r := &reader{source: source, prefix: prefix}
	at := place{reader: r}
	for _, s := range strays {
		if s.twice != "" {
			delete(found, "pfs")
			at.in(s.key).refuse("%s; no PF is provisioned", s.say(topKeys()))
			continue
		}
		at.in(plain(s.key)).warn("%s", s.say(topKeys()))
	}
	var entries []json.RawMessage
	if err = json.Unmarshal(found["resourceList"], &entries); err != nil {
		return nil, nil, network.Invalid.Errorf("%s: resourceList: is %s, want an array of resources", source, kindOf(found["resourceList"]))
	}
	if len(entries) == 0 {
		at.in("resourceList").warn("is empty: no device is offered")
	}
	config = &Config{Source: source}
	for i, entry := range entries {
		if res := r.resource(i, entry); res != nil {
			config.Resources = append(config.Resources, *res)
		}
	}
	config.Resources = r.distinct(config.Resources)
	before := r.refusals
	config.PFs = at.pfs(found)
	config.PFsInDoubt = r.refusals > before || len(strays) > 0
	return config, r.problems, nil
}

func topKeys() []string { return []string{"resourceList", "pfs"} }

// top reads the outermost object. resourceList is in it, and once.
func top(source string, raw []byte) (found fields, strays []stray, err error) {
	if len(raw) > maxFile {
		return nil, nil, network.Invalid.Errorf("%s: has %d bytes, at most %d are read", source, len(raw), maxFile)
	}
	var whole json.RawMessage
	if err = json.Unmarshal(raw, &whole); err != nil {
		return nil, nil, network.Malformed.Errorf("%s: is no JSON%s: %w", source, position(raw, err), err)
	}
	if kind := kindOf(whole); kind != anObject {
		return nil, nil, network.Malformed.Errorf("%s: is %s, want an object with a resourceList", source, kind)
	}
	found, strays = sorted(whole, topKeys())
	for _, s := range strays {
		if s.twice != "" && strings.EqualFold(s.key, "resourceList") {
			return nil, nil, network.Invalid.Errorf("%s: %s: %s", source, s.key, s.say(topKeys()))
		}
	}
	if _, ok := found["resourceList"]; !ok {
		return nil, nil, network.Invalid.Errorf("%s: resourceList: is missing%s", source, meant(strays))
	}
	return found, strays, nil
}

// meant names the key that was probably meant to be resourceList.
func meant(strays []stray) string {
	for _, s := range strays {
		if Nearest(s.key, topKeys()[:1]) != "" {
			return fmt.Sprintf(": is %s meant for it?", quote(s.key))
		}
	}
	return ": want an array of resources, each with resourceName and selectors"
}

// position says where in the file JSON ends to be JSON.
func position(raw []byte, err error) string {
	var syntax *json.SyntaxError
	if !errors.As(err, &syntax) || syntax.Offset < 1 || syntax.Offset > int64(len(raw)) {
		return ""
	}
	before := raw[:syntax.Offset]
	line := bytes.Count(before[:len(before)-1], []byte("\n")) + 1
	column := len(before) - (bytes.LastIndexByte(before[:len(before)-1], '\n') + 1)
	return fmt.Sprintf(" at line %d, column %d", line, column)
}

// distinct leaves out resources whose name an earlier one has, and warns of
// names that containers could not tell apart.
func (r *reader) distinct(all []Resource) []Resource {
	var kept []Resource
	names := map[string]bool{}
	variables := map[string]string{}
	for _, res := range all {
		at := place{reader: r, part: res.Name, key: "resourceName"}
		if names[res.Name] {
			at.refuse("an earlier entry has this name already: put both entries' selectors into one list, or rename one")
			continue
		}
		names[res.Name] = true
		variable := EnvName(res.Name)
		if other := variables[variable]; other != "" {
			at.warn("a container with this resource and %s gets one variable %s for both: rename one", other, variable)
		}
		variables[variable] = res.Name
		kept = append(kept, res)
	}
	return kept
}
