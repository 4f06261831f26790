package multiplexer_test

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// runtimes writes the record that the runtime's libcni has of Multus's own
// ADD, and returns a plugin that finds it at its place: the directory is the
// real one in a mount namespace of the plugin's.
func (m *multus) runtimes(container string) (plugin, record string) {
	m.Helper()
	name := "results/multus-cni-network-" + container + "-eth0"
	m.write("cni/"+name, obj{
		"kind": "cniCacheV1", "containerId": container, "ifName": "eth0", "networkName": "multus-cni-network",
		"config": []byte(`{"cniVersion":"0.3.1","name":"multus-cni-network","plugins":[{"type":"multus"}]}`),
	})
	m.must(os.Chmod(m.file("cni/"+name), 0o600))
	plugin = m.file("plugin")
	m.write("plugin", fmt.Sprintf("#!/bin/sh\nexec unshare --mount sh -c 'mount -t tmpfs none /var/lib && mkdir /var/lib/cni && mount --bind %s /var/lib/cni && exec %s'\n", m.file("cni"), nettest.Binary(m)))
	m.must(os.Chmod(plugin, 0o755))
	return plugin, m.file("cni/" + name)
}

// delBy deletes c1 by that plugin, which finds what its script needs.
func (m *multus) delBy(plugin string) nettest.Outcome {
	m.Helper()
	call := m.request("DEL", "c1", m.stdin(nil))
	call.Bin, call.Path = plugin, append(call.Path, "/usr/bin", "/bin", "/usr/sbin", "/sbin")
	out, err := m.node.CNI(m.Context(), call)
	m.must(err)
	return out
}

// The runtime's record of Multus goes with Multus's own, and stays as long as
// those do.
func TestDelOfMultusAndTheRuntimesRecord(t *testing.T) {
	for name, withState := range map[string]bool{"with a journal": true, "without a state": false} {
		t.Run(name, func(t *testing.T) {
			m := newMultus(t)
			m.add("c1", 0, m.busyTrio()...)
			plugin, record := m.runtimes("c1")
			_, others := m.runtimes("c2")
			if !withState {
				m.config["stateDir"] = "/proc/no-directory-can-be-made-here"
			}
			del := func() nettest.Outcome { return m.delBy(plugin) }
			m.refused(del(), 11, "busy")
			if _, err := os.Stat(record); err != nil {
				t.Errorf("it went before the networks: %v", err)
			}
			if e := del().Error(); e != nil {
				t.Fatal(e)
			}
			if _, err := os.Stat(record); !os.IsNotExist(err) {
				t.Errorf("it stays: %v", err)
			}
			if _, err := os.Stat(others); err != nil {
				t.Errorf("another container's: %v", err)
			}
		})
	}
}

// Where a record of Multus is left to look into, the runtime's is too.
func TestDelOfMultusKeepsTheRuntimesRecord(t *testing.T) {
	m := newMultus(t)
	m.add("c1", 0, m.trio()...)
	plugin, record := m.runtimes("c1")
	m.must(os.Truncate(m.record("c1"), 100))
	if e := m.delBy(plugin).Error(); e != nil {
		t.Fatal(e)
	}
	for _, path := range []string{m.record("c1"), record} {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
}

// A runtime that tried a container with Multus, and tries it anew after the
// conf changed: what Multus left is released first.
func TestAddAfterMultus(t *testing.T) {
	m := newMultus(t)
	before := m.clean()
	m.add("c1", 1, m.trio()...) // the last network failed
	m.define("a")
	m.forget()
	m.networks("a").ok("ADD", "c1")
	m.want(m.calls(), []string{"DEL b lab0", "DEL a net1", "DEL cluster eth0", "ADD cluster eth0", "ADD a net1"})
	if _, err := os.Stat(m.record("c1")); !os.IsNotExist(err) {
		t.Errorf("Multus's record stays: %v", err)
	}
	m.ok("DEL", "c1")
	nettest.RequireSame(t, before, m.snapshot())
}

// What cannot be released refuses the ADD, and is tried again by the next.
func TestAddAfterMultusFails(t *testing.T) {
	m := newMultus(t)
	m.add("c1", 0, m.busyTrio()...)
	m.forget()
	m.refused(m.call("ADD", "c1", nil), 11, "earlier ADD by Multus", "busy")
	m.want(len(m.called("ADD")), 0)
	m.ok("ADD", "c1")
	m.want(m.calls()[len(m.calls())-1], "ADD cluster eth0")
	m.ok("DEL", "c1")
}

// Multus that calls multiplexer has written its list a moment ago: its
// networks are none of an earlier ADD.
func TestAddWithinMultus(t *testing.T) {
	m := newMultus(t)
	for name, test := range map[string]struct {
		first obj
		extra obj
	}{
		"chained behind it": {m.list("cluster", "10.0.0.0/24", nil), obj{"prevResult": obj{"cniVersion": "1.1.0", "interfaces": []any{obj{"name": "eth0", "sandbox": m.netns}}}}},
		"its delegate":      {obj{"cniVersion": "1.0.0", "name": "cluster", "plugins": []any{obj{"type": "multiplexer"}}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var list []obj
			for _, conf := range []obj{test.first, m.list("a", "10.50.0.0/24", nil)} {
				raw, err := json.Marshal(conf)
				m.must(err)
				list = append(list, obj{"Name": conf["name"], "Bytes": raw})
			}
			raw, err := json.Marshal(list)
			m.must(err)
			m.must(os.MkdirAll(m.file("multus"), 0o700))
			m.must(os.WriteFile(m.record("c1"), raw, 0o600))
			m.forget()
			if e := m.call("ADD", "c1", test.extra).Error(); e != nil {
				t.Fatal(e)
			}
			if slices.ContainsFunc(m.calls(), func(c string) bool { return c[:3] == "DEL" }) {
				t.Errorf("%q", m.calls())
			}
			if _, err = os.Stat(m.record("c1")); err != nil {
				t.Error(err)
			}
			m.call("DEL", "c1", test.extra)
		})
	}
}
