package multiplexer_test

import (
	"os"
	"testing"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// Somebody removed a directory of the state: it is made again by the call that
// needs it, and no pod has to wait for an operator.
func TestMissingStateDirectories(t *testing.T) {
	for _, dir := range []string{"journal", "running", "release"} {
		t.Run(dir, func(t *testing.T) {
			f := newFixture(t)
			f.define("a")
			f.write("conf/a.conflist", f.list("a", "10.50.0.0/24", obj{
				"ADD": []any{obj{"allocate": true}},
				"DEL": []any{obj{"failOnce": obj{"code": 11, "msg": "busy"}}, obj{"free": true}},
			}))
			f.ok("ADD", "first") // it makes them all
			f.ok("DEL", "first")
			before := f.snapshot()
			f.must(os.Remove(f.file("state/" + dir)))
			f.networks("a").ok("ADD", "c1")
			if dir == "release" {
				f.must(os.RemoveAll(f.file("state/" + dir)))
			}
			f.refused(f.call("DEL", "c1", nil), 11, "busy")
			if _, err := os.Stat(f.file("state/release/c1")); err != nil {
				t.Errorf("it is not marked for a later try: %v", err)
			}
			f.ok("DEL", "c1")
			info, err := os.Stat(f.file("state/" + dir))
			if err != nil || info.Mode().Perm() != 0o700 {
				t.Errorf("%v %v", info, err)
			}
			nettest.RequireSame(t, before, f.snapshot())
		})
	}
}
