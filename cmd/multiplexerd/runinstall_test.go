package main

import (
	"context"
	"testing"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/install"
)

// Whose an installation is: an agent that nobody names has to know itself
// again when it is started after an uninstall.
func TestWhoseInstallation(t *testing.T) {
	made := time.Unix(1_800_000_000, 0)
	for name, test := range map[string]struct {
		service, given, pod string
		want                string
		created             time.Time
	}{
		"outside of a pod":          {"", "", "", "agent", time.Time{}},
		"outside of a pod, named":   {"", "mine", "", "mine", time.Time{}},
		"in a pod of a DaemonSet":   {"10.96.0.1", "", "mx-1", "uid-1", made},
		"in a pod, named":           {"10.96.0.1", "mine", "mx-1", "mine", time.Time{}},
		"in a pod that nobody says": {"10.96.0.1", "", "", "", time.Time{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("KUBERNETES_SERVICE_HOST", test.service)
			k := &keeper{
				Installer: &install.Installer{}, flags: &keeperFlags{installation: test.given, pod: test.pod, podNamespace: "kube-system"},
				daemonSet: func(context.Context, string, string) (string, time.Time, error) { return "uid-1", made, nil },
			}
			for range 2 {
				if err := k.identify(t.Context()); err != nil || k.Installation != test.want || !k.Created.Equal(test.created) {
					t.Errorf("%v: %q, created %s", err, k.Installation, k.Created)
				}
			}
		})
	}
}
