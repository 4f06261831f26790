package sriov

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// documented returns the rows of the table below "## Keys", by key.
func documented(t *testing.T) map[string]string {
	t.Helper()
	page, err := os.ReadFile("../../docs/sriov.md")
	if err != nil {
		t.Fatal(err)
	}
	_, below, found := strings.Cut(string(page), "\n## Keys\n")
	if !found {
		t.Fatal("docs/sriov.md has no section Keys")
	}
	section, _, _ := strings.Cut(below, "\n## ")
	rows := map[string]string{}
	for line := range strings.Lines(section) {
		cells := strings.SplitN(line, "|", 3)
		if len(cells) < 3 || cells[0] != "" {
			if len(rows) > 0 {
				break // the first table ends; others of the section have no keys
			}
			continue
		}
		for _, key := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[1], -1) {
			if _, twice := rows[key[1]]; twice {
				t.Errorf("%s is in the table twice", key[1])
			}
			rows[key[1]] = cells[2]
		}
	}
	if len(rows) < 10 {
		t.Fatalf("the table of keys has %d", len(rows))
	}
	return rows
}

// Every key that is read is documented, and the other way round.
func TestKeysAreDocumented(t *testing.T) {
	rows := documented(t)
	cni := []string{"cniVersion", "name", "type", "args", "runtimeConfig", "prevResult"}
	var keys []string
	for _, field := range reflect.VisibleFields(reflect.TypeFor[Conf]()) {
		key, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if key == "" || key == "-" {
			t.Errorf("field %s has no key", field.Name)
		}
		keys = append(keys, key)
		if _, ok := rows[key]; !ok && !slices.Contains(cni, key) {
			t.Errorf("docs/sriov.md does not say what %q is", key)
		}
	}
	for key := range rows {
		if !slices.Contains(keys, key) {
			t.Errorf("docs/sriov.md has a key %q that is not read", key)
		}
	}
}

// The values in the table are those that are taken.
func TestDocumentedValues(t *testing.T) {
	rows := documented(t)
	for key, values := range map[string][]string{
		"vlan": {"0 to 4094"}, "vlanQoS": {"0 to 7"}, "mtu": {"68 to 65535"}, "vf": {"0 or more"}, "vlanProto": {proto8021Q, proto8021AD},
		"spoofchk": {on, off}, "trust": {on, off}, "link_state": {linkAuto, linkEnable, linkDisable}, "unsupported": {Strict, BestEffort},
	} {
		for _, value := range values {
			if !strings.Contains(rows[key], value) {
				t.Errorf("%s: docs/sriov.md does not say %q: %s", key, value, rows[key])
			}
		}
		// The words of the table, each in the network's own configuration.
		cell, _, _ := strings.Cut(rows[key], "|")
		for _, word := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cell, -1) {
			if _, err := ParseConf([]byte(onVF(`"vlan":1,"`+key+`":"`+word[1]+`"`)), ""); err != nil {
				t.Errorf("%s: docs/sriov.md says %q: %v", key, word[1], err)
			}
		}
	}
	for _, knob := range knobs() {
		for key := range strings.SplitSeq(string(knob), " and ") {
			if _, ok := rows[key]; !ok {
				t.Errorf("messages name a knob %q that docs/sriov.md does not have", key)
			}
		}
	}
}

// The definitions that the page shows are taken as they are.
func TestDocumentedDefinitions(t *testing.T) {
	page, err := os.ReadFile("../../docs/sriov.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```json\n(.*?)```").FindAllSubmatch(page, -1)
	if len(blocks) == 0 {
		t.Fatal("docs/sriov.md shows none")
	}
	plugin := regexp.MustCompile(`(?s)"plugins": \[(\{.*\})\]\}`)
	for _, block := range blocks {
		conf := plugin.FindSubmatch(block[1])
		if conf == nil {
			t.Fatalf("no list: %s", block[1])
		}
		stdin := strings.Replace(string(conf[1]), "{", `{"name":"fast",`, 1)
		wantSettings(t, stdin, "", "master=ens2f0 vlan=100 spoofchk=on trust=off ipam=host-local")
	}
	// What it says to be refused by name is.
	refused := regexp.MustCompile(`refused by name: ([^.]*)\.`).FindSubmatch(page)
	if refused == nil {
		t.Fatal("docs/sriov.md does not say what is refused by name")
	}
	for _, key := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(string(refused[1]), -1) {
		asked := `"` + key[1] + `":"yes"`
		if key[1] == "infinibandGUID" { // a capability: the runtime sends it
			asked = `"runtimeConfig":{` + asked + `}`
		}
		if _, err = ParseConf([]byte(onVF(asked)), ""); err == nil || !strings.Contains(err.Error(), key[1]) {
			t.Errorf("%s: %v", key[1], err)
		}
	}
}
