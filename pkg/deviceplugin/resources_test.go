package deviceplugin

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/multiplexer-cni/multiplexer/internal/kubelettest"
)

// A node has 128 inotify instances for all of root's programs, and resources
// may be more: they share one, and each hears of a kubelet that restarts.
func TestManyResourcesTakeOneInotifyInstance(t *testing.T) {
	const many = 150
	b := newBed(t)
	b.configure(resources(1))
	b.run()
	b.registered(1, 1)
	one := inotifyInstances(t)
	b.configure(resources(many))
	b.registered(many, 1)
	if got := inotifyInstances(t); got != one {
		t.Errorf("%d resources take %d inotify instances more than one does", many, got-one)
	}
	b.kubelet.RequireRestart(t)
	b.registered(many, 2)
	if log := b.log.String(); strings.Contains(log, "changes are seen late") {
		t.Errorf("log:\n%s", log)
	}
	b.configure(resources(0))
	b.until("the instance is given back", func() bool {
		b.pass(farewell)
		b.manager.Recheck()
		return inotifyInstances(t) == one-1
	})
}

// resources is a configuration of so many, which no device belongs to.
func resources(n int) string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf(`{"resourceName": "r%d", "selectors": [{"drivers": ["none"]}]}`, i))
	}
	return `{"resourceList": [` + strings.Join(list, ",") + `]}`
}

// registered waits until kubelet has registered so many resources so often.
func (b *bed) registered(resources, times int) {
	b.t.Helper()
	for i := range resources {
		b.kubelet.RequireFor(b.t, fmt.Sprintf("intel.com/r%d", i), soon, func(r kubelettest.Resource) bool {
			return r.Registrations >= times && len(r.Sockets) == 1
		})
	}
}

// inotifyInstances counts those of this process.
func inotifyInstances(t *testing.T) (n int) {
	t.Helper()
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if to, linkErr := os.Readlink(fd); linkErr == nil && to == "anon_inode:inotify" {
			n++
		}
	}
	return n
}
