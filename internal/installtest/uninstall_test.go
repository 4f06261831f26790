package installtest

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// Pods come and go before, during and after an uninstall, and each is whole.
func TestPodsAcrossUninstall(t *testing.T) {
	s := newSite(t)
	older, plain, asks, late := s.pod("older", "storage"), s.pod("plain", ""), s.pod("asks", "storage"), s.pod("late", "storage")
	pods := []*pod{older, plain, asks, late}
	before := s.snapshot(pods...)
	s.ok("ADD", older) // from before: it gets no second network, but a DEL

	s.run("install")
	s.want("first", s.first().Name, "cluster")
	s.want("plugins", s.first().Plugins[0].Network.Type, "multiplexer")
	s.want("marker", s.there(marker), false)
	s.ok("ADD", asks)
	s.ok("ADD", plain)
	s.want("NICs", s.interfaces(asks), []string{"eth0", "net1"})
	s.reaches(asks, "192.168.50.1")

	going := s.start(s.command("uninstall"))
	going.says("shop/asks (storage)")
	s.want("marker", s.there(marker), true)
	s.later(late, "shop/late", "being uninstalled", s.in(marker))
	s.want("NICs of a refused pod", s.interfaces(late), []string{})
	late.networks = ""
	s.ok("ADD", late)
	s.ok("CHECK", late)
	s.ok("STATUS", late)
	s.ok("DEL", late)
	s.ok("CHECK", asks)
	s.ok("DEL", older)
	s.want("conf while a pod needs it", s.there(conf), true)
	s.ok("DEL", asks)
	going.says("Removed " + s.in(conf)) // and the plugin not yet
	out := going.ends()
	if conf, plugin := strings.Index(out, s.in(conf)), strings.Index(out, s.in(plugin)); conf < 0 || plugin < conf {
		t.Errorf("the plugin is to go after the conf:\n%s", out)
	}
	s.want("conf and plugin", []bool{s.there(conf), s.there(plugin)}, []bool{false, false})
	s.reaches(plain, "10.244.7.1")
	s.ok("DEL", plain) // by the cluster network's own configuration
	s.ok("ADD", late)
	s.ok("DEL", late)
	nettest.RequireSame(t, before, s.snapshot(pods...))

	// The node can have it again, and what plain left in the journals hinders nobody.
	s.run("install")
	s.ok("ADD", asks)
	s.want("NICs", s.interfaces(asks), []string{"eth0", "net1"})
	s.ok("DEL", asks)
	s.run("uninstall")
	nettest.RequireSame(t, before, s.snapshot(pods...))
}

// --force takes the networks of pods that run, and leaves them eth0, its
// addresses and its routes. Whoever deletes them later leaks nothing.
func TestForce(t *testing.T) {
	for name, container := range map[string]bool{"on the node": false, "in a container": true} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			twice, moved, plain := s.pod("twice", "storage,storage"), s.pod("moved", `[{"name":"storage","default-route":["192.168.50.1"]}]`), s.pod("plain", "")
			pods := []*pod{twice, moved, plain}
			before := s.snapshot(pods...)
			// What a pod with the cluster network alone looks like.
			for _, p := range pods {
				s.ok("ADD", p)
			}
			alone := s.routes(moved)
			for _, p := range pods {
				s.ok("DEL", p)
			}
			s.run("install")
			for _, p := range pods {
				s.ok("ADD", p)
			}
			s.want("NICs", [][]string{s.interfaces(twice), s.interfaces(moved)}, [][]string{{"eth0", "net1", "net2"}, {"eth0", "net1"}})
			s.want("leases", []int{s.leases("cluster"), s.leases("storage")}, []int{3, 3})
			if s.routes(moved) == alone {
				t.Fatal("the default route was not moved: the test sees nothing")
			}

			cmd := s.command("uninstall", "--force", "--timeout", "1m")
			if container {
				cmd.Env = append(os.Environ(), "KUBERNETES_SERVICE_HOST=10.96.0.1")
			} else {
				cmd = onNode(cmd)
			}
			going := s.start(cmd)
			if container { // the plugin does it when the runtime calls it, which it does every few seconds
				going.says("shop/moved (storage)")
				s.until("the networks are detached", func() bool {
					if s.there(conf) {
						_ = s.call("STATUS", plain) // its answer is the cluster network's
					}
					return s.leases("storage") == 0
				})
			}
			going.ends()
			for _, p := range pods {
				s.want("NICs of "+p.id, s.interfaces(p), []string{"eth0"})
				s.reaches(p, "10.244.7.1")
			}
			s.want("leases", []int{s.leases("cluster"), s.leases("storage")}, []int{3, 0})
			s.want("conf and plugin", []bool{s.there(conf), s.there(plugin)}, []bool{false, false})
			if now := s.shape(moved); now != s.shapeOf(alone) {
				t.Errorf("routes of a pod that lives on:\n%s\nwant\n%s", now, s.shapeOf(alone))
			}
			for _, p := range pods {
				s.ok("DEL", p)
			}
			nettest.RequireSame(t, before, s.snapshot(pods...))
		})
	}
}

// onNode gives a command a first process of its own: here, that of the
// machine may be somebody else's, which nobody can look at.
func onNode(cmd *exec.Cmd) *exec.Cmd {
	return exec.Command("unshare", append([]string{"--fork", "--pid", "--mount-proc", "--kill-child"}, cmd.Args...)...)
}

// routes are the pod's routes and rules in all tables.
func (s *site) routes(p *pod) string {
	s.Helper()
	var out []byte
	s.must(p.ns.Do(func() error {
		for _, args := range [][]string{{"-4", "route", "show", "table", "all"}, {"-4", "rule"}, {"-6", "rule"}} {
			part, err := exec.Command("ip", args...).Output()
			if err != nil {
				return err
			}
			out = append(out, part...)
		}
		return nil
	}))
	return string(out)
}

func (s *site) shape(p *pod) string { return s.shapeOf(s.routes(p)) }

// shapeOf leaves the pod's own address out, which differs from pod to pod.
func (s *site) shapeOf(routes string) string {
	var lines []string
	for line := range strings.Lines(routes) {
		var words []string
		for _, w := range strings.Fields(line) {
			if strings.HasPrefix(w, "10.244.7.") && w != "10.244.7.0/24" && w != "10.244.7.1" && w != "10.244.7.255" {
				w = "OWN"
			}
			words = append(words, w)
		}
		lines = append(lines, strings.Join(words, " "))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// A pod whose network cannot be detached keeps the node's configuration in
// place, and is named; the next try goes on.
func TestForceFails(t *testing.T) {
	s := newSite(t)
	p := s.pod("stuck", "storage")
	before := s.snapshot(p)
	s.run("install")
	s.ok("ADD", p)
	s.must(os.Rename(s.in("bin/bridge"), s.in("bin/bridge.away")))
	going := s.start(onNode(s.command("uninstall", "--force")))
	s.until("it failed more than once", func() bool {
		journal, err := os.ReadFile(s.in("state/journal/stuck"))
		s.must(err)
		return strings.Count(string(journal), `"e":"failed"`) > 1
	})
	going.endChild() // maybe in the middle of a try
	said := going.fails()
	for _, w := range []string{"shop/stuck", "storage", `plugin "bridge" is in none of`, "1 pod still has networks"} {
		if !strings.Contains(said, w) {
			t.Errorf("does not say %q:\n%s", w, said)
		}
	}
	s.want("conf and plugin", []bool{s.there(conf), s.there(plugin)}, []bool{true, true})
	s.must(os.Rename(s.in("bin/bridge.away"), s.in("bin/bridge")))
	out, err := onNode(s.command("uninstall", "--force", "--timeout", "1m")).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s.want("NICs", s.interfaces(p), []string{"eth0"})
	s.ok("DEL", p)
	nettest.RequireSame(t, before, s.snapshot(p))
}

// Killed while it waits, uninstall goes on where it was; install in between
// ends it.
func TestUninstallKilled(t *testing.T) {
	s := newSite(t)
	p, late := s.pod("asks", "storage"), s.pod("late", "storage")
	before := s.snapshot(p, late)
	s.run("install")
	s.ok("ADD", p)
	going := s.start(s.command("uninstall"))
	going.says("shop/asks (storage)")
	s.must(going.cmd.Process.Signal(syscall.SIGKILL))
	<-going.done
	s.later(late, "being uninstalled")
	s.run("install")
	s.ok("ADD", late)
	s.ok("DEL", late)

	going = s.start(s.command("uninstall"))
	going.says("shop/asks (storage)")
	s.must(going.cmd.Process.Signal(syscall.SIGTERM)) // told to end: it says why it did
	if out := going.fails(); !strings.Contains(out, "1 pod still has networks") {
		t.Errorf("it says not why it failed:\n%s", out)
	}
	s.want("conf and plugin", []bool{s.there(conf), s.there(plugin)}, []bool{true, true})
	s.ok("DEL", p)
	s.run("uninstall")
	nettest.RequireSame(t, before, s.snapshot(p, late))
}

// Of several pods whose networks cannot be detached, each is named once in the
// list, and once with what stands in the way.
func TestForceFailsOfSeveral(t *testing.T) {
	s := newSite(t)
	var pods []*pod
	for _, id := range []string{"one", "two", "three"} {
		pods = append(pods, s.pod(id, "storage"))
	}
	before := s.snapshot(pods...)
	s.run("install")
	for _, p := range pods {
		s.ok("ADD", p)
	}
	s.must(os.Rename(s.in("bin/bridge"), s.in("bin/bridge.away")))
	going := s.start(onNode(s.command("uninstall", "--force")))
	s.until("all failed more than once", func() bool {
		return !slices.ContainsFunc(pods, func(p *pod) bool {
			journal, err := os.ReadFile(s.in("state/journal/" + p.id))
			s.must(err)
			return strings.Count(string(journal), `"e":"failed"`) < 2
		})
	})
	going.endChild() // maybe in the middle of a try
	said := going.fails()
	_, end, _ := strings.Cut(said, "Error: ")
	s.want("lists", strings.Count(said, "3 pods have networks, which the plugin takes away"), 1)
	for _, p := range pods {
		s.want("what hinders "+p.id, strings.Count(end, "container "+p.id+":"), 1)
	}
	if strings.Contains(said, "use --force") || !strings.Contains(end, `plugin "bridge" is in none of`) {
		t.Errorf("%s", said)
	}
	s.must(os.Rename(s.in("bin/bridge.away"), s.in("bin/bridge")))
	out, err := onNode(s.command("uninstall", "--force", "--timeout", "1m")).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, p := range pods {
		s.ok("DEL", p)
	}
	nettest.RequireSame(t, before, s.snapshot(pods...))
}
