package network

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"

	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"
	"github.com/containernetworking/cni/pkg/version"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// classified fails for an error without a kind: it would reach the runtime
// as an internal error, and its user without advice.
func classified(t *testing.T, err error) {
	t.Helper()
	var kind Kind
	if !errors.As(err, &kind) || err.Error() == "" {
		t.Errorf("no kind: %v", err)
	}
}

// A configuration that is accepted can be used as it is.
func FuzzParseConfig(f *testing.F) {
	f.Fuzz(func(t *testing.T, stdin []byte) {
		c, err := ParseConfig(stdin)
		if err != nil {
			classified(t, err)
			return
		}
		for _, path := range []string{c.StateDir, c.ConfDir, c.ClusterConfDir} {
			if !filepath.IsAbs(path) {
				t.Errorf("path %q is not absolute", path)
			}
		}
		if c.AddTimeout <= c.DelTimeout || c.DelTimeout <= 0 {
			t.Errorf("budget: add %s, del %s", c.AddTimeout, c.DelTimeout)
		}
		for _, p := range c.ClusterCIDRs {
			if p != p.Masked() {
				t.Errorf("range %s has host bits", p)
			}
		}
		if c.Result != ResultMerged && c.Result != ResultCluster {
			t.Errorf("result %q", c.Result)
		}
	})
}

// Selections that are accepted are within the standard's limits, and mean the
// same when they are written in the JSON form.
func FuzzParseSelections(f *testing.F) {
	f.Fuzz(func(t *testing.T, value string) {
		got, err := ParseSelections("k", value)
		if err != nil {
			classified(t, err)
			return
		}
		if len(got) > maxAttachments {
			t.Fatalf("%d selections", len(got))
		}
		routes := 0
		for _, s := range got {
			if validateKubeName("name", s.Name) != nil || (s.Interface != "" && ValidateInterface("interface", s.Interface) != nil) {
				t.Errorf("accepted %+v", s)
			}
			if filepath.Base(s.Namespace) != s.Namespace && s.Namespace != "" {
				t.Errorf("namespace %q is a path", s.Namespace)
			}
			if s.DefaultRoute != nil {
				routes++
			}
		}
		if routes > 1 {
			t.Errorf("%d default routes", routes)
		}
		again, err := ParseSelections("k", string(encode(rewrite(got))))
		if err != nil {
			t.Fatalf("written again it is refused: %v", err)
		}
		if diff := cmp.Diff(got, again, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{}), cmpopts.IgnoreFields(Selection{}, "Warnings", "CNIArgs")); diff != "" {
			t.Errorf("written again it means something else:\n%s", diff)
		}
	})
}

// rewrite is the JSON form of selections.
func rewrite(list []Selection) []map[string]any {
	out := []map[string]any{}
	for _, s := range list {
		o := map[string]any{"name": s.Name}
		for key, v := range map[string]string{
			"namespace": s.Namespace, "interface": s.Interface, "mac": s.MAC, "infiniband-guid": s.InfinibandGUID, "ipam-claim-reference": s.IPAMClaimReference,
		} {
			if v != "" {
				o[key] = v
			}
		}
		if s.IPs != nil {
			o["ips"] = s.IPs
		}
		if s.PortMappings != nil {
			o["portMappings"] = s.PortMappings
		}
		if s.Bandwidth != nil {
			o["bandwidth"] = s.Bandwidth
		}
		if s.DefaultRoute != nil {
			o["default-route"] = *s.DefaultRoute
		}
		if s.Device != nil {
			o[DeviceKey] = s.Device
		}
		out = append(out, o)
	}
	return out
}

// A list that is accepted can be run; laying arguments over it loses no
// other value.
func FuzzParseList(f *testing.F) {
	f.Fuzz(func(t *testing.T, raw []byte) {
		list, err := ParseList("file", "fallback", raw)
		if err == nil {
			err = list.Validate("file")
		}
		if err != nil {
			classified(t, err)
			return
		}
		if !slices.Contains(version.All.SupportedVersions(), list.CNIVersion) {
			t.Errorf("version %q", list.CNIVersion)
		}
		for _, pluginType := range list.Types() {
			if MetaPlugin(pluginType) || filepath.Base(pluginType) != pluginType || pluginType == ".." || pluginType == "." {
				t.Errorf("type %q", pluginType)
			}
		}
		before := slices.Clone(list.Plugins)
		if list.SetArgs("file", map[string]json.RawMessage{"k": json.RawMessage("1")}) != nil {
			return
		}
		for i := range before {
			was, now := object(t, before[i]), object(t, list.Plugins[i])
			delete(was, "args")
			delete(now, "args")
			if diff := cmp.Diff(was, now); diff != "" {
				t.Errorf("plugins[%d] changed:\n%s", i, diff)
			}
		}
	})
}

// object decodes an object whose values are compared as compact text.
func object(t *testing.T, raw json.RawMessage) map[string]string {
	t.Helper()
	var values map[string]json.RawMessage
	if err := json.Unmarshal(raw, &values); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for k, v := range values {
		var compact, escaped bytes.Buffer
		if err := json.Compact(&compact, v); err != nil {
			t.Fatal(err)
		}
		json.HTMLEscape(&escaped, compact.Bytes())
		out[k] = escaped.String()
	}
	return out
}

// The cluster network's part stays, every address has an interface, and the
// result can be had in every version.
func FuzzMerge(f *testing.F) {
	f.Fuzz(func(t *testing.T, clusterJSON, otherJSON []byte, crio bool) {
		cluster, other := fuzzResult(clusterJSON), fuzzResult(otherJSON)
		if cluster == nil || other == nil {
			return
		}
		opts := MergeOptions{Netns: "/ns", IfName: "eth0"}
		if crio {
			opts.Runtime = CRIO
		}
		text := string(encode(other))
		out := Merge(cluster, []Part{{IfName: "net1", Result: other}, {IfName: "net2", Result: other}}, opts)
		if string(encode(other)) != text {
			t.Error("an attachment's own result was changed")
		}
		if diff := cmp.Diff(cluster.IPs, out.IPs[:len(cluster.IPs)], cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("the cluster network's addresses changed:\n%s", diff)
		}
		for _, ip := range out.IPs[len(cluster.IPs):] {
			if ip.Interface == nil || *ip.Interface < len(cluster.Interfaces) || *ip.Interface >= len(out.Interfaces) {
				t.Fatalf("address %v has interface %v of %d, the cluster network %d", ip.Address, ip.Interface, len(out.Interfaces), len(cluster.Interfaces))
			}
			if out.Interfaces[*ip.Interface].Name == "eth0" {
				t.Error("an attachment's address is credited to eth0")
			}
		}
		for _, v := range version.All.SupportedVersions()[2:] {
			if _, err := out.GetAsVersion(v); err != nil {
				t.Errorf("version %s: %v", v, err)
			}
		}
	})
}

func fuzzResult(raw []byte) *current.Result {
	result, err := create.CreateFromBytes(raw)
	if err != nil {
		return nil
	}
	newest, err := current.NewResultFromResult(result)
	if err != nil || CheckResult(newest) != nil {
		return nil
	}
	return newest
}
