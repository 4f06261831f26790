package agenttest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// edit changes the first line of a pod's journal, which says when and on
// which boot it was opened.
func (n *Node) edit(p *Pod, change func(line obj)) {
	n.Helper()
	path := n.File("state/journal/" + p.Container)
	raw, err := os.ReadFile(path)
	n.must(err)
	first, rest, _ := bytes.Cut(raw, []byte("\n"))
	_, body, _ := bytes.Cut(first, []byte(" "))
	var line obj
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	n.must(decoder.Decode(&line))
	change(line)
	body, err = json.Marshal(line)
	n.must(err)
	n.must(os.WriteFile(path, fmt.Appendf(nil, "%08x %s\n%s", crc32.ChecksumIEEE(body), body, rest), 0o600))
}

// age makes a journal as old as it has to be to be judged, and older than
// that.
func (n *Node) age(p *Pod, more time.Duration) {
	n.Helper()
	n.edit(p, func(line obj) { line["t"] = time.Now().Add(-2*time.Minute - more) })
}

// marked reports whether a pod's container is named as left over.
func (n *Node) marked(p *Pod) bool {
	_, err := os.Stat(n.File("state/release/" + p.Container))
	return err == nil
}

// looked waits until the agent has looked at so many journals.
func (n *Node) looked(journals int) {
	n.Helper()
	n.untilMetric(`multiplexer_journal_entries{state="attached"}`, fmt.Sprint(journals))
}

// pods runs the ADDs of pods, and returns them by name.
func (n *Node) pods(prefix string, names ...string) map[string]*Pod {
	n.Helper()
	n.Define("shop", prefix, n.List(prefix, "10.51.0.0/24"), "")
	pods := map[string]*Pod{}
	for i, name := range names {
		pods[name] = n.Pod(prefix+"-"+name, prefix)
		n.OK("ADD", pods[name])
		n.age(pods[name], time.Duration(len(names)-i)*time.Second)
	}
	return pods
}

// A container whose namespace is gone, or that is of another boot, is named
// by the agent, and released by the next call of the plugin; a pod that is
// missing at the API server is no reason, nor is a namespace that the agent
// cannot see for a container that is young.
func TestLeftovers(t *testing.T) {
	n := ready(t)
	pods := n.pods("left", "gone", "missing", "boot", "young", "alive")
	n.KillAgent() // so that it sees all at once
	n.must(pods["gone"].NS.Close())
	n.DeletePod(pods["missing"])
	n.edit(pods["boot"], func(line obj) { line["header"].(obj)["boot"] = "another" })
	n.edit(pods["young"], func(line obj) { line["t"] = time.Now() })
	n.must(pods["young"].NS.Close())
	n.DeletePod(pods["young"])
	n.StartAgent()
	n.WaitReady()
	n.looked(5)
	n.untilMetric("multiplexer_leftovers", "2")
	for name, want := range map[string]bool{"gone": true, "missing": false, "boot": true, "young": false, "alive": false} {
		if n.marked(pods[name]) != want {
			t.Errorf("%s: named as left over: %t", name, !want)
		}
	}
	// Somebody is wrong about a living one.
	n.must(os.WriteFile(n.File("state/release/"+pods["alive"].Container), nil, 0o600))
	other := n.NewPod("shop", "left-other", "")
	n.OK("DEL", other) // any call does
	for name, released := range map[string]bool{"gone": true, "missing": false, "boot": true, "young": false, "alive": false} {
		p := pods[name]
		if n.Journal(p) == released || n.marked(p) {
			t.Errorf("%s: journal %t, marked %t", name, n.Journal(p), n.marked(p))
		}
		if len(n.Called("DEL", p)) != map[bool]int{true: 2}[released] {
			t.Errorf("%s: %v", name, n.Called("DEL", p))
		}
	}
	n.looked(3)
	n.untilMetric("multiplexer_leftovers", "0")
	for _, name := range []string{"missing", "young", "alive"} {
		n.OK("DEL", pods[name])
	}
	left, err := filepath.Glob(n.File("rec/leases/*/*"))
	n.must(err)
	n.same(left, []string(nil))
}

// A pod's end is a reason to look, long before the next look.
func TestLeftoversOfADeletedPod(t *testing.T) {
	n := ready(t, "--sweep", "1h")
	pods := n.pods("deleted", "one", "alive")
	n.must(pods["one"].NS.Close())
	n.DeletePod(pods["one"])
	n.Until("the container is named", func() (bool, string) { return n.marked(pods["one"]), n.AgentLog() })
}

// A view of the namespaces that is not the host's, or not of now, judges
// nobody.
func TestLeftoversByAView(t *testing.T) {
	n := ready(t)
	n.KillAgent()
	view := n.File("netns")
	n.Flags = []string{"--netns-dir", view}
	n.StartAgent()
	n.WaitReady()
	pods := n.pods("view", "older", "gone", "newer")
	n.must(pods["gone"].NS.Close())
	show := func(name string) { n.must(os.WriteFile(filepath.Join(view, pods[name].NS.Name()), nil, 0o600)) }
	again := func() {
		t.Helper()
		n.KillAgent()
		n.StartAgent()
		n.WaitReady()
		n.looked(3)
	}
	for _, stale := range []string{"", "older"} { // empty, or as it was a while ago
		if stale != "" {
			show(stale)
		}
		again()
		for name, p := range pods {
			if n.marked(p) {
				t.Errorf("view with %q: %s is named as left over", stale, name)
			}
		}
	}
	show("newer")
	again()
	n.same([]bool{n.marked(pods["older"]), n.marked(pods["gone"]), n.marked(pods["newer"])}, []bool{false, true, false})
	// Nobody that is known to live: nothing proves the view.
	n.must(os.Remove(n.File("state/release/" + pods["gone"].Container)))
	n.KillAgent()
	n.DeletePod(pods["older"])
	n.DeletePod(pods["newer"])
	n.StartAgent()
	n.WaitReady()
	n.looked(3)
	n.same(n.marked(pods["gone"]), false)
}
