package multustest

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
	"github.com/multiplexer-cni/multiplexer/pkg/multus"
)

// confs are Multus's configurations of the two ways in which it knows the
// cluster network: its contents, as the entry point of the thin image writes
// it, and its file, as the daemon of the thick image does.
func (s *site) confs() map[string]string {
	common := fmt.Sprintf(`"type": "multus", "capabilities": {"portMappings": true}, "kubeconfig": %q, "cniDir": %q, "confDir": %q, "binDir": %q, "logLevel": "error"`,
		s.in("kubeconfig"), s.in("multus"), s.in("nowhere"), s.in("bin"))
	return map[string]string{
		"00-multus.conflist": fmt.Sprintf(`{"cniVersion": "1.0.0", "name": "multus-cni-network", "plugins": [{%s, "delegates": [%s]}]}`, common, s.config(clusterNetwork)),
		"00-multus.conf":     fmt.Sprintf(`{"cniVersion": "1.0.0", "name": "multus-cni-network", %s, "clusterNetwork": %q}`, common, s.in("net.d/10-cluster.conflist")),
	}
}

// multus puts Multus into the first place.
func (s *site) multus(conf string) {
	s.Helper()
	// A first pod leaves what the plugins keep: bridges, tables, the leases' locks.
	const first = "00-multus.conflist"
	s.write("net.d/"+first, s.confs()[first])
	p := s.pod("first", "storage,lab")
	p.mapped = hostPort(8081)
	s.ok("ADD", p)
	s.ok("DEL", p)
	s.must(os.Remove(s.in("net.d/" + first)))
	s.write("net.d/"+conf, s.confs()[conf])
}

func hostPort(port int) []map[string]any {
	return []map[string]any{{"hostPort": port, "containerPort": 80, "protocol": "tcp"}}
}

// chosen asks for more than a name.
const chosen = `[{"name": "storage"}, {"name": "lab", "interface": "lab0", "ips": ["192.168.60.77/24"], "mac": "02:00:00:00:00:77"}]`

// A node goes from Multus to multiplexer while pods run. They keep their NICs,
// and are detached by multiplexer as if Multus had never been.
func TestMigrationWithPodsRunning(t *testing.T) {
	for _, conf := range []string{"00-multus.conflist", "00-multus.conf"} {
		t.Run(conf, func(t *testing.T) {
			s := newSite(t)
			s.multus(conf)
			old, plain := s.pod("old", chosen), s.pod("plain", "")
			old.mapped = hostPort(8080)
			young := s.pod("young", chosen[:strings.Index(chosen, `, "ips"`)]+`}]`)
			before := s.snapshot(old, plain, young)
			s.ok("ADD", old)
			s.ok("ADD", plain)
			s.want("NICs by Multus", s.interfaces(old), "[eth0 lab0 net1]")
			s.want("records of Multus", len(s.records(old)), 4)
			s.want("the runtime's records of Multus", multus.OuterRecords(s.in("cache/results"), "old", "eth0"), []string{s.in("cache/results/multus-cni-network-old-eth0")})
			s.migrate(conf)

			// The old pod goes on, and a new one gets its NICs by multiplexer.
			s.ok("CHECK", old)
			s.ok("CHECK", plain)
			s.ok("ADD", young)
			s.want("NICs by multiplexer", s.interfaces(young), "[eth0 lab0 net1]")
			s.want("records of Multus for the new pod", s.records(young), "[]")
			for _, nic := range s.interfaces(old) {
				s.reaches(old, nic, s.address(young, nic))
				s.reaches(young, nic, s.address(old, nic))
			}
			s.want("the address that was asked for", s.address(old, "lab0"), "192.168.60.77")

			s.want("the runtime's records of Multus for the new pod", multus.OuterRecords(s.in("cache/results"), "young", "eth0"), "[]")

			// Nothing of theirs is garbage.
			running := s.snapshot(old, plain, young)
			s.gc(old, plain, young)
			nettest.RequireSame(t, running, s.snapshot(old, plain, young))

			s.ok("DEL", old)
			s.want("records of Multus", s.records(old), "[]")
			s.reaches(plain, "eth0", s.address(young, "eth0"))
			s.ok("DEL", old)
			s.ok("DEL", young)
			s.ok("DEL", plain)
			nettest.RequireSame(t, before, s.snapshot(old, plain, young))
		})
	}
}

// What Multus left half done, multiplexer ends: an ADD that failed at the last
// network, and a record that was cut short.
func TestWhatMultusLeftHalfDone(t *testing.T) {
	s := newSite(t)
	s.multus("00-multus.conf")
	failing, cut := s.pod("failing", "storage,lab"), s.pod("cut", "storage,lab")
	before := s.snapshot(failing, cut)
	s.must(os.Rename(s.in("bin/tuning"), s.in("bin/tuning.away")))
	if _, err := s.call("ADD", failing); err == nil || !strings.Contains(err.Error(), "tuning") {
		t.Fatalf("ADD: %v", err)
	}
	s.must(os.Rename(s.in("bin/tuning.away"), s.in("bin/tuning")))
	s.ok("ADD", cut)
	s.must(os.Truncate(s.in("multus/cut"), 1000))
	s.migrate("00-multus.conf")
	s.ok("DEL", failing)
	s.ok("DEL", cut)
	s.want("what stays of it", s.records(cut), "[cut]") // which networks it named is not known
	s.must(os.Remove(s.in("multus/cut")))
	nettest.RequireSame(t, before, s.snapshot(failing, cut))
}

// Multus's own list is enough, in whichever way it knows the cluster network.
func TestWithoutTheRecordsOfLibcni(t *testing.T) {
	for _, conf := range []string{"00-multus.conflist", "00-multus.conf"} {
		t.Run(conf, func(t *testing.T) {
			s := newSite(t)
			s.multus(conf)
			p := s.pod("web", chosen)
			p.mapped = hostPort(8080)
			before := s.snapshot(p)
			s.ok("ADD", p)
			s.must(os.RemoveAll(s.in("multus/results")))
			s.migrate(conf)
			s.ok("DEL", p)
			s.must(os.Mkdir(s.in("multus/results"), 0o700))
			nettest.RequireSame(t, before, s.snapshot(p))
		})
	}
}

// A delegate that cannot be run is not lost: its DEL fails, and is repeated.
func TestPluginOfMultusIsMissing(t *testing.T) {
	s := newSite(t)
	s.multus("00-multus.conflist")
	p := s.pod("web", "storage,lab")
	before := s.snapshot(p)
	s.ok("ADD", p)
	s.migrate("00-multus.conflist")
	s.must(os.Rename(s.in("bin/macvlan"), s.in("bin/macvlan.away")))
	if _, err := s.call("DEL", p); err == nil || !strings.Contains(err.Error(), "macvlan") {
		t.Fatalf("DEL: %v", err)
	}
	s.want("NICs", s.interfaces(p), "[net1]") // the others are gone
	s.want("records of Multus", len(s.records(p)), 4)
	s.must(os.Rename(s.in("bin/macvlan.away"), s.in("bin/macvlan")))
	s.ok("DEL", p)
	nettest.RequireSame(t, before, s.snapshot(p))
}

// A pod whose namespace is gone without a DEL, as after a reboot, is released
// by GC.
func TestGCOfAPodOfMultusThatIsGone(t *testing.T) {
	s := newSite(t)
	s.multus("00-multus.conflist")
	gone, lives := s.pod("gone", "storage,lab"), s.pod("lives", "storage")
	s.ok("ADD", lives)
	before := s.files()
	s.ok("ADD", gone)
	s.migrate("00-multus.conflist")
	s.must(gone.ns.Close())
	s.gc(lives)
	s.want("records of Multus", s.records(gone), "[]")
	// The rule for its masquerade stays: bridge takes it away by the addresses
	// in the namespace.
	nettest.RequireSame(t, before, s.files())
	s.ok("DEL", lives)
}

// A runtime lost the answer of Multus, and tries the container again when
// multiplexer is there.
func TestPodThatMultusStartedInVain(t *testing.T) {
	s := newSite(t)
	s.multus("00-multus.conf")
	p := s.pod("retried", "storage,lab")
	before := s.snapshot(p)
	s.ok("ADD", p) // its answer was lost
	s.migrate("00-multus.conf")
	s.ok("ADD", p)
	s.want("NICs", s.interfaces(p), "[eth0 net1 net2]")
	s.want("records of Multus", s.records(p), "[]")
	s.ok("DEL", p)
	nettest.RequireSame(t, before, s.snapshot(p))
}
