package routetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// proof names the tests that fail when a rule is taken away.
type proof struct {
	rule  string
	lines []mark   // to take away
	tests []string // over the bridge network, unless /SHAPE follows
}

// mark finds a line of a file by what it ends in.
type mark struct{ file, end string }

// rule is the line of one of R1 to R6.
func rule(name string) mark { return mark{"pkg/routing/decide.go", "// " + name} }

// readBack is the line of R7.
func readBack() mark { return mark{"pkg/routing/guard.go", "// R7"} }

// proofs are what docs/routing.md quotes.
func proofs() []proof {
	return []proof{
		{"R1", []mark{rule("R1")}, []string{
			"TestDefaultRouteIsTheOneAskedFor",
			"TestFamilyWithoutADefaultIsLent/ipv6",
			"TestClientLeavesByTheRightNIC",
		}},
		// R7 sees the foreign defaults too, and refuses the pod.
		{"R2", []mark{rule("R2"), readBack()}, []string{
			"TestDefaultRouteIsTheOneAskedFor",
			"TestHalvesAreADefault",
			"TestClientLeavesByTheRightNIC",
		}},
		{"R3", []mark{rule("R3")}, []string{
			"TestServerAnswersByTheNICOfTheRequest",
			"TestRefusalLeavesByTheNICOfTheRequest",
			"TestStrangerReachesTheClusterAddress",
			"TestBoundClientLeavesByItsNIC",
			"TestTwoNICsOnOneSubnetAnswerForThemselves",
			"TestNothingFallsThroughToAnotherNIC",
		}},
		{"R4", []mark{rule("R4")}, []string{
			"TestServiceIsReachedInEveryArrangement",
			"TestClientLeavesByTheRightNIC",
			"TestSubnetOfTheClusterNetworkIsKept",
			"TestMovedDefaultNeedsKnownRanges",
		}},
		{"R5", []mark{rule("R5")}, []string{
			"TestEachNICAnswersARPForItself",
			"TestLeaksBelowIPAreClosed",
		}},
		{"R5 while NICs come up", []mark{{"pkg/routing/guard.go", "g.pod.writeSysctls(g.quiet)"}}, []string{
			"TestRouterAdvertisementsChangeNothing",
		}},
		{"R6", []mark{rule("R6")}, []string{"TestOverlapIsNamed"}},
		{"R7", []mark{readBack()}, []string{"TestADDReadsBack"}},
		{"R7 in CHECK", []mark{{"pkg/multiplexer/check.go", "pod.Compare(rules.checked(entry)))"}}, []string{"TestCheckNotices"}},
	}
}

// Each rule is a line that ends in a mark. Without that line every test that is
// said to prove the rule fails.
func TestEachRuleIsProven(t *testing.T) {
	if isMutant() {
		t.Skip("this is a run of a mutant")
	}
	for _, p := range proofs() {
		t.Run(p.rule, func(t *testing.T) {
			t.Parallel()
			mutant := p.mutant(t)
			for _, name := range p.tests {
				if out, failed := runWith(t, mutant, name); !failed {
					t.Errorf("%s passes without %s:\n%s", name, p.rule, out)
				}
			}
		})
	}
}

// envMutant is set in a run of a mutant.
const envMutant = "ROUTETEST_MUTANT"

func isMutant() bool { return os.Getenv(envMutant) != "" }

// runWith runs one test over one network with another multiplexer, and reports
// whether it failed as a test does.
func runWith(t *testing.T, bin, test string) (out string, failed bool) {
	t.Helper()
	name, shape, _ := strings.Cut(test, "/")
	if shape == "" {
		shape = "bridge"
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.count=1", "-test.failfast", "-test.v", "-test.run", "^"+name+"$/^"+shape+"$")
	cmd.Env = append(os.Environ(), "MULTIPLEXER_BIN="+bin, envMutant+"=1")
	raw, err := cmd.CombinedOutput()
	out = string(raw)
	if !strings.Contains(out, "=== RUN   "+name+"/"+shape+"\n") {
		t.Fatalf("%s did not run over %s: %v\n%s", name, shape, err, out)
	}
	if err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatal(err)
	}
	return out, strings.Contains(out, "--- FAIL: "+name+" ")
}

// mutant builds multiplexer without the rule's lines.
func (p proof) mutant(t *testing.T) (bin string) {
	t.Helper()
	root, err := filepath.Abs("../..")
	must(t, err)
	dir, replace := t.TempDir(), map[string]string{}
	for _, m := range p.lines {
		file := filepath.Join(root, m.file)
		raw, readErr := os.ReadFile(file)
		must(t, readErr)
		content, findErr := without(string(raw), m.end)
		if findErr != nil {
			t.Fatalf("%s: %v", m.file, findErr)
		}
		replace[file] = filepath.Join(dir, filepath.Base(m.file))
		must(t, os.WriteFile(replace[file], []byte(content), 0o644))
	}
	raw, err := json.Marshal(obj{"Replace": replace})
	must(t, err)
	overlay := filepath.Join(dir, "overlay.json")
	must(t, os.WriteFile(overlay, raw, 0o644))
	bin = filepath.Join(dir, "multiplexer")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-overlay", overlay, "-o", bin, "./cmd/multiplexer")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, buildErr := cmd.CombinedOutput(); buildErr != nil {
		t.Fatalf("build without %s: %v\n%s", p.rule, buildErr, out)
	}
	return bin
}

// without takes away the one line that ends in the mark.
func without(source, mark string) (string, error) {
	lines := strings.Split(source, "\n")
	var found []int
	for i, line := range lines {
		if code, isMarked := strings.CutSuffix(line, mark); isMarked {
			found = append(found, i+1)
			lines[i] = disabled(code)
		}
	}
	if len(found) != 1 {
		return "", fmt.Errorf("%q marks the lines %v, want one", mark, found)
	}
	return strings.Join(lines, "\n"), nil
}

// disabled is a line that does nothing: blank, a return without an error, or,
// when it opens the block for one, a condition that is never true.
func disabled(code string) string {
	switch trimmed := strings.TrimSpace(code); {
	case strings.HasSuffix(trimmed, "err != nil {"):
		return strings.Replace(code, "err != nil {", "false {", 1)
	case strings.HasPrefix(trimmed, "return"):
		return "return nil"
	}
	return ""
}
