package kubetest

import (
	"os"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The tests run with the kind that deploy/ ships: the two files differ in
// comments alone.
func TestDefinitionsCRDIsTheOneOfDeploy(t *testing.T) {
	shipped, err := os.ReadFile("../../deploy/network-attachment-definitions.yaml")
	if err != nil {
		t.Fatal(err)
	}
	comment := regexp.MustCompile(`(?m)^\s*#.*\n`)
	bare := func(text string) string { return comment.ReplaceAllString(text, "") }
	if diff := cmp.Diff(bare(DefinitionsCRD()), bare(string(shipped))); diff != "" {
		t.Errorf("the kind (-testdata +deploy):\n%s", diff)
	}
}
