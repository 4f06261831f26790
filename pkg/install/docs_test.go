package install

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

// docs/multus.md says of every key of Multus what becomes of it.
func TestMigrateIsDocumented(t *testing.T) {
	_, page, found := strings.Cut(docs(t, "multus.md"), "\n## What migrate does with each key\n")
	table, _, _ := strings.Cut(page, "\n## ")
	if !found {
		t.Fatal("the section is missing")
	}
	for _, key := range slices.Concat(sameInBoth(), pathsInBoth(), elsewhere(), slices.Sorted(maps.Keys(multusOnly()))) {
		if !strings.Contains(table, "`"+key+"`") {
			t.Errorf("%s is missing", key)
		}
	}
}

// docs/install.md says what each reason means, but for those that uninstall
// alone tells.
func TestReasonsAreDocumented(t *testing.T) {
	page := docs(t, "install.md")
	for _, reason := range Reasons() {
		if reason != Removed && reason != PluginKept && !strings.Contains(page, "`"+string(reason)+"`") {
			t.Errorf("%s is missing", reason)
		}
	}
}

func docs(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile("../../docs/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
