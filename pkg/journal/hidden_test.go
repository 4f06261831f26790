package journal

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// lived is a store with the journal of c1: the cluster network and two more, all
// attached.
func lived(t *testing.T) (store *Store, lines [][]byte) {
	t.Helper()
	store = &Store{Dir: t.TempDir(), Now: time.Now}
	e, err := store.Create(t.Context(), "c1")
	must(t, err)
	must(t, e.Begin(Header{Container: "c1", IfName: "eth0", Boot: "boot"}))
	_, err = e.Plan(network.Attachment{Reference: "cluster", IfName: "eth0", Cluster: true})
	must(t, err)
	must(t, e.Adding(0))
	must(t, e.Added(0, json.RawMessage(`"of 0"`), nil))
	_, err = e.Plan(network.Attachment{Reference: "a", IfName: "net1"}, network.Attachment{Reference: "b", IfName: "net2"})
	must(t, err)
	for i, result := range []string{`"of 1"`, `"of 2"`} {
		must(t, e.Adding(i+1))
		must(t, e.Added(i+1, json.RawMessage(result), nil))
	}
	must(t, e.Ready())
	must(t, e.Close())
	raw, err := os.ReadFile(filepath.Join(store.Dir, journalDir, "c1"))
	must(t, err)
	return store, slices.Collect(bytes.Lines(raw))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// The lines of c1's journal.
const (
	openLine = iota
	clusterPlan
	clusterAdding
	clusterAdded
	otherPlan
	firstOther
)

// An attachment keeps its number, whatever line is damaged.
func TestNumbers(t *testing.T) {
	all := []string{"cluster of 0", "a of 1", "b of 2"}
	for name, c := range map[string]struct {
		damage []int
		want   []string
		hides  bool
	}{
		"nothing":                 {nil, all, false},
		"open":                    {[]int{openLine}, all, false},
		"the cluster's plan":      {[]int{clusterPlan}, []string{"? of 0", "a of 1", "b of 2"}, true},
		"all about the cluster":   {[]int{clusterPlan, clusterAdding, clusterAdded}, []string{"? planned", "a of 1", "b of 2"}, true},
		"the others' plan":        {[]int{otherPlan}, []string{"cluster of 0", "? of 1", "? of 2"}, true},
		"both plans":              {[]int{clusterPlan, otherPlan}, []string{"? of 0", "? of 1", "? of 2"}, true},
		"the others' and a's ADD": {[]int{otherPlan, firstOther, firstOther + 1}, []string{"cluster of 0", "? planned", "? of 2"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			store, lines := lived(t)
			for _, i := range c.damage {
				lines[i][0] ^= 1
			}
			must(t, os.WriteFile(filepath.Join(store.Dir, journalDir, "c1"), bytes.Join(lines, nil), 0o600))
			got, err := store.Read("c1")
			must(t, err)
			if diff := cmp.Diff(c.want, shape(got)); diff != "" {
				t.Errorf("want(-) got(+):\n%s", diff)
			}
			if got.Hides() != c.hides || got.Damaged != len(c.damage) || !got.Usable() {
				t.Errorf("hides %t, damaged %d, usable %t", got.Hides(), got.Damaged, got.Usable())
			}
			for i := range got.Records {
				r := &got.Records[i]
				if row := strings.Join(r.TableRow(), " "); strings.Contains(row, "damaged") != r.Hidden {
					t.Errorf("row %q", row)
				}
				if r.Hidden && (r.Network() || slices.Contains(got.Names(), r.IfName)) {
					t.Errorf("%d is hidden, and taken for a known one", i)
				}
			}
		})
	}
}

// shape is what the records say, in a few words each.
func shape(c *Contents) (out []string) {
	for i := range c.Records {
		r := &c.Records[i]
		name, what := r.Reference, string(r.Step)
		if r.Hidden {
			name = "?"
		}
		if r.Result != nil {
			what = strings.Trim(string(r.Result), `"`)
		}
		out = append(out, name+" "+what)
	}
	return out
}

// A journal in which only numbers are left says nothing: neither what, nor whose.
func TestNumbersAlone(t *testing.T) {
	store, lines := lived(t)
	for _, i := range []int{openLine, clusterPlan, otherPlan} {
		lines[i][0] ^= 1
	}
	must(t, os.WriteFile(filepath.Join(store.Dir, journalDir, "c1"), bytes.Join(lines, nil), 0o600))
	if got, err := store.Read("c1"); err != nil || got.Usable() {
		t.Errorf("%v %+v", err, got)
	}
}

// Lines without numbers, of a version that wrote none, are read as that one did;
// that one reads ours: it leaves the number out, as it does any key that it does
// not know.
func TestPlanLines(t *testing.T) {
	_, lines := lived(t)
	var old Contents
	for i, line := range lines {
		_, body, _ := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
		var keys map[string]json.RawMessage
		must(t, json.Unmarshal(body, &keys))
		if _, version := keys["v"]; version != (i == openLine) {
			t.Errorf("line %d: %s", i, body)
		}
		if i == clusterPlan || i == otherPlan {
			if got, want := string(keys["i"]), map[int]string{clusterPlan: "", otherPlan: "1"}[i]; got != want {
				t.Errorf("line %d has number %q, want %q", i, got, want)
			}
			delete(keys, "i")
		}
		raw, err := json.Marshal(keys)
		must(t, err)
		var e event
		must(t, json.Unmarshal(raw, &e))
		old.apply(e)
	}
	if diff := cmp.Diff([]string{"cluster of 0", "a of 1", "b of 2"}, shape(&old)); diff != "" {
		t.Errorf("want(-) got(+):\n%s", diff)
	}
}

// A number that is none makes no journal of a million attachments.
func TestSillyNumbers(t *testing.T) {
	for _, kind := range []string{evPlan, evAdding, evFailed} {
		for _, i := range []int{-1 << 62, -1, 1 << 62} {
			var c Contents
			c.apply(event{Event: kind, Index: i, Plan: []network.Attachment{{}}})
			if len(c.Records) > mostRecords+1 {
				t.Errorf("%s %d: %d records", kind, i, len(c.Records))
			}
		}
	}
	var c Contents
	c.apply(event{Event: "of a later version"})
	if len(c.Records) != 0 {
		t.Errorf("%+v", c.Records)
	}
}
