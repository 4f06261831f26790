package resource

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// documented returns the keys in the first column of a page's tables, which
// begin by their header.
func documented(t *testing.T, page string, headers ...string) []string {
	t.Helper()
	raw, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	in := false
	for line := range strings.Lines(string(raw)) {
		cells := strings.Split(line, "|")
		switch {
		case len(cells) < 3:
			in = false
		case slices.Contains(headers, strings.TrimSpace(cells[1])+" "+strings.TrimSpace(cells[2])):
			in = true
		case in:
			for _, key := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[1], -1) {
				keys = append(keys, key[1])
			}
		}
	}
	slices.Sort(keys)
	return keys
}

// The pages list every key that is read, and no other.
func TestKeysAreDocumented(t *testing.T) {
	want := slices.Concat(resourceKeys(), criteria(), []string{"needVhostNet"})
	slices.Sort(want)
	same(t, "keys of docs/device-plugin.md", documented(t, "../../docs/device-plugin.md", "key value", "selector example"), want)
	pf := slices.Sorted(slices.Values(pfKeys()))
	same(t, "keys of docs/provisioning.md", documented(t, "../../docs/provisioning.md", "key value"), pf)
}

// The examples of the pages are served as they stand.
func TestExamplesOfTheDocs(t *testing.T) {
	for page, want := range map[string][]string{
		"device-plugin.md": {"intel.com/fast", "intel.com/dpdk"}, "provisioning.md": {"intel.com/dpdk"},
	} {
		raw, err := os.ReadFile("../../docs/" + page)
		if err != nil {
			t.Fatal(err)
		}
		example := regexp.MustCompile("(?s)```json\n(.*?)```").FindSubmatch(raw)
		if example == nil {
			t.Fatalf("%s has no example", page)
		}
		c, problems := read(t, string(example[1]))
		same(t, page+": problems", problems, []string(nil))
		same(t, page+": resources", served(c), want)
	}
}
