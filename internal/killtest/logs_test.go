package killtest

import (
	"strings"
	"testing"
)

// watch shows, when the test has failed, what the nodes' programs and
// multiplexer's pods logged.
func watch(t *testing.T) {
	t.Helper()
	cluster.Watch(t)
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		for _, b := range beds {
			for kind, container := range map[string]string{agents: "agent", uninstaller: "uninstall"} {
				t.Logf("== %s: the log of %s ends with\n%s", b.Name, kind, b.tail(kind, container))
			}
		}
	})
}

// tail is the end of what a DaemonSet's pods on the node have written.
func (b *bed) tail(kind, container string) string {
	const most = 40
	pods, err := b.daemons(kind)
	if err != nil {
		return err.Error()
	}
	var text []string
	for i := range pods {
		lines, logErr := b.Log(&pods[i], container)
		if logErr != nil {
			text = append(text, logErr.Error())
		}
		for _, line := range lines[max(0, len(lines)-most):] {
			text = append(text, line.Text)
		}
	}
	return strings.Join(text, "\n")
}
