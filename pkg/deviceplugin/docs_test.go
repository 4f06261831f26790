package deviceplugin

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

// docs/agent.md lists every metric of the device plugin, with its labels.
func TestMetricsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/agent.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented, told []string
	for _, row := range regexp.MustCompile("(?m)^\\| `(multiplexer_device_plugin_[a-z_]+)` \\| [a-z]+ \\|([^|]*)\\|").FindAllStringSubmatch(string(page), -1) {
		documented = append(documented, row[1]+" "+strings.TrimSpace(regexp.MustCompile("[`,]").ReplaceAllString(row[2], "")))
	}
	described := make(chan *prometheus.Desc, 100)
	(&Manager{}).Collector().Describe(described)
	close(described)
	for desc := range described {
		parts := regexp.MustCompile(`fqName: "([^"]+)".*variableLabels: \{([^}]*)\}`).FindStringSubmatch(desc.String())
		told = append(told, parts[1]+" "+regexp.MustCompile(",").ReplaceAllString(parts[2], " "))
	}
	slices.Sort(documented)
	slices.Sort(told)
	if diff := cmp.Diff(told, documented); diff != "" {
		t.Errorf("metrics (-collector +docs/agent.md):\n%s", diff)
	}
}
