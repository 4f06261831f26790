package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
	"sigs.k8s.io/yaml"

	"github.com/multiplexer-cni/multiplexer/internal/kubelettest"
	"github.com/multiplexer-cni/multiplexer/internal/nettest"
	"github.com/multiplexer-cni/multiplexer/pkg/agentapi"
	"github.com/multiplexer-cni/multiplexer/pkg/journal"
	"github.com/multiplexer-cni/multiplexer/pkg/k8sclient"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestHealthyNode(t *testing.T) {
	b := newBed(t)
	before := b.tree()
	report := b.Look(t.Context())
	for _, row := range report.Rows {
		if row.State != OK && row.State != NA || row.Remedy != "" {
			t.Errorf("%+v", row)
		}
	}
	if report.Failed() || len(report.Rows) < 12 {
		t.Errorf("%+v", report)
	}
	if after := b.tree(); after != before {
		t.Errorf("doctor changed the node:\n%s\nto\n%s", before, after)
	}
}

// tree lists the node's files with their sizes, modes and times of change.
func (b *bed) tree() string {
	b.Helper()
	out, err := exec.Command("find", b.Root, "-printf", "%P %s %m %T@\n").Output()
	b.must(err)
	return string(out)
}

// trouble is something wrong with a node, and what doctor has to say of it.
type trouble struct {
	name  string
	make  func(*bed)
	check string
	state State
	words string // of WHAT
}

func TestTroubles(t *testing.T) {
	for _, c := range append(append(nodeTroubles(), stateTroubles()...), deviceTroubles()...) {
		t.Run(c.name, func(t *testing.T) {
			b := newBed(t)
			c.make(b)
			var said []string
			for _, f := range b.find(c.check) {
				if f.State == c.state && strings.Contains(f.What, c.words) {
					if f.Remedy == "" && f.State != OK && f.State != NA {
						t.Errorf("no remedy: %+v", f)
					}
					return
				}
				said = append(said, fmt.Sprintf("%s %s", f.State, f.What))
			}
			t.Errorf("%s: want %s %q, got\n%s", c.check, c.state, c.words, strings.Join(said, "\n"))
		})
	}
}

// Moved out of the directory, the cluster network would not be found; another
// network may go.
func TestRemedyForWhatCRIOCollects(t *testing.T) {
	b := newBed(t)
	b.file("/etc/crio/crio.conf", "[crio]\n", 0o644)
	b.edit(confDir+"/10-pods.conflist", `"pods"`, `"other"`)
	b.edit(confDir+"/10-pods.conflist", `"1.0.0"`, `"1.1.0"`)
	b.file(confDir+"/20-more.conflist", `{"cniVersion":"1.1.0","name":"more","plugins":[{"type":"bridge"}]}`, 0o600)
	for _, f := range b.find("cluster network") {
		if moves := strings.Contains(f.Remedy, "move it"); moves != (f.State == Warn) || !strings.Contains(f.Remedy, "disableGC") {
			t.Errorf("%+v", f)
		}
		if f.State == Fail && !strings.Contains(f.Remedy, "multiplexerd install") {
			t.Errorf("%+v", f)
		}
	}
}

func nodeTroubles() []trouble {
	return []trouble{
		{"two runtimes", func(b *bed) {
			b.file("/etc/containerd/config.toml", "version = 3\n", 0o644)
			b.file("/etc/crio/crio.conf", "[crio]\n", 0o644)
		}, "runtime", Fail, "set --runtime to the one that kubelet uses"},
		{"a network that CRI-O names", func(b *bed) {
			b.file("/etc/crio/crio.conf", "[crio.network]\ncni_default_network = \"other\"\n", 0o644)
		}, "runtime", Warn, "cni_default_network"},
		{"no conf", func(b *bed) { b.must(os.Remove(b.at(conf))) }, "conf", Fail, "00-multiplexer.conflist does not exist"},
		{"a rival before it", func(b *bed) {
			b.file(confDir+"/00-multus.conf", `{"cniVersion":"0.3.1","name":"multus","type":"multus"}`, 0o600)
			b.must(os.Rename(b.at(confDir+"/00-multus.conf"), b.at(confDir+"/00-a.conf")))
		}, "conf", Fail, "00-a.conf sorts before our conf"},
		{"renamed by Cilium", func(b *bed) {
			b.must(os.Rename(b.at(conf), b.at(conf+".cilium_bak")))
		}, "conf", Fail, "was renamed by Cilium"},
		{"another cluster network", func(b *bed) {
			b.edit(confDir+"/10-pods.conflist", `"pods"`, `"other"`)
		}, "conf", Warn, "is not as this installation makes it"},
		{"a file that cannot be read", func(b *bed) { b.file(confDir+"/20-x.conf", "{", 0o600) }, "conf", Warn, "20-x.conf: not valid JSON"},
		{"a conf that is no JSON", func(b *bed) { b.file(conf, "{", 0o600) }, "conf", Fail, "not valid JSON"},
		{"a misspelt key", func(b *bed) { b.options(map[string]any{"routeing": map[string]any{}}) }, "conf", Warn, `"routeing" is not known`},
		{"a refused value", func(b *bed) { b.edit(conf, `"10.244.0.0/16"`, `"10.244.0.0"`) }, "conf", Fail, "clusterCIDRs[0]"},
		{"annotations not asked for", func(b *bed) { b.edit(conf, `"io.kubernetes.cri.pod-annotations": true`, `"x": true`) }, "conf", Warn, "every pod has to wait for the agent"},
		{"nor an agent", func(b *bed) {
			b.options(map[string]any{"agentSocket": ""})
			b.edit(conf, `"io.kubernetes.cri.pod-annotations": true`, `"x": true`)
		}, "conf", Fail, "no pod starts"},
		{"a capability not asked for", func(b *bed) { b.edit(conf, `"portMappings": true`, `"x": true`) }, "conf", Fail, "portmap takes portMappings"},
		{"an old version", func(b *bed) { b.edit(conf, `"1.1.0"`, `"1.0.0"`) }, "conf", Warn, "offers CNI 1.0.0 at most"},
		{"no folder for the log", func(b *bed) { b.options(map[string]any{"logFile": "/nowhere/log"}) }, "conf", Warn, "nothing is logged"},
		{"two networks for CRI-O", func(b *bed) {
			b.file("/etc/crio/crio.conf", "[crio]\n", 0o644)
			b.edit(conf, `"pods"`, `"multiplexer"`)
		}, "conf", Fail, "CRI-O takes them for two networks"},
		{"the cluster network collected by CRI-O", func(b *bed) {
			b.file("/etc/crio/crio.conf", "[crio]\n", 0o644)
			b.edit(confDir+"/10-pods.conflist", `"pods"`, `"other"`)
			b.edit(confDir+"/10-pods.conflist", `"1.0.0"`, `"1.1.0"`)
		}, "cluster network", Fail, "CRI-O's GC takes the addresses"},
		{"another network collected by CRI-O", func(b *bed) {
			b.file("/etc/crio/crio.conf", "[crio]\n", 0o644)
			b.file(confDir+"/20-more.conflist", `{"cniVersion":"1.1.0","name":"more","plugins":[{"type":"bridge"}]}`, 0o600)
		}, "cluster network", Warn, `("more")`},
		{"a conf by hand", func(b *bed) { b.must(os.Rename(b.at(conf), b.at(confDir+"/05-mine.conflist"))) }, "conf", OK, "05-mine.conflist is the first of 2"},
		{"a conf by hand that is second", func(b *bed) { b.must(os.Rename(b.at(conf), b.at(confDir+"/50-mine.conflist"))) }, "conf", Fail, "10-pods.conflist sorts before 50-mine.conflist"},
		{"no cluster network", func(b *bed) { b.must(os.Remove(b.at(confDir + "/10-pods.conflist"))) }, "cluster network", Fail, "no cluster network"},
		{"a cluster network that is not ready", func(b *bed) { b.options(map[string]any{"readinessindicatorfile": "/run/ready"}) }, "cluster network", Fail, "readinessindicatorfile"},
		{"no plugin", func(b *bed) { b.must(os.Remove(b.at("/opt/cni/bin/multiplexer"))) }, "plugin", Fail, "is missing: no pod can start"},
		{"a plugin of another machine", func(b *bed) {
			b.must(os.Remove(b.at("/opt/cni/bin/multiplexer")))
			b.file("/opt/cni/bin/multiplexer", "\x7fELF", 0o755)
		}, "plugin", Fail, "cannot be run"},
		{"another program in its place", func(b *bed) {
			b.must(os.Remove(b.at("/opt/cni/bin/multiplexer")))
			b.file("/opt/cni/bin/multiplexer", "#!/bin/sh\necho something >&2\n", 0o755)
		}, "plugin", Fail, `but "something"`},
		{"an old plugin", func(b *bed) { b.Version = "v9" }, "plugin", Warn, `", this tool "v9"`},
		{"no plugin of the cluster network", func(b *bed) { b.must(os.Remove(b.at("/opt/cni/bin/bridge"))) }, "delegates", Fail, "plugin bridge is in none of /opt/cni/bin: the cluster network"},
		{"no IPAM plugin", func(b *bed) { b.must(os.Remove(b.at("/opt/cni/bin/host-local"))) }, "delegates", Fail, "plugin host-local is in none"},
		{"a plugin that is not executable", func(b *bed) { b.must(os.Chmod(b.at("/opt/cni/bin/portmap"), 0o644)) }, "delegates", Fail, "portmap is not executable"},
		{"no plugin of a file", func(b *bed) {
			b.file("/conf/shop/a.conf", `{"cniVersion":"1.0.0","name":"a","type":"macvlan"}`, 0o600)
		}, "delegates", Warn, "plugin macvlan is in none of /opt/cni/bin: /conf/shop/a.conf"},
		{"an embedded plugin's IPAM", func(b *bed) {
			b.file("/conf/a.conf", `{"cniVersion":"1.0.0","name":"a","type":"sriov","ipam":{"type":"whereabouts"}}`, 0o600)
		}, "delegates", Warn, "plugin whereabouts is in none"},
		{"embedded plugins", func(b *bed) {
			b.file("/conf/a.conf", `{"cniVersion":"1.0.0","name":"a","type":"sriov","ipam":{"type":"fixipam"}}`, 0o600)
		}, "delegates", OK, "bridge, host-local, portmap"},
		{"embedded plugins turned off", func(b *bed) {
			b.options(map[string]any{"embedded": []string{}})
			b.file("/conf/a.conf", `{"cniVersion":"1.0.0","name":"a","type":"sriov"}`, 0o600)
		}, "delegates", Warn, "plugin sriov is in none"},
		{"no plugin of a default network", func(b *bed) {
			b.file(stateDir+"/cluster.json", `{"version":1,"definitions":[{"namespace":"kube-system","name":"d","config":"{\"cniVersion\":\"1.0.0\",\"type\":\"ipvlan\"}"}]}`, 0o600)
		}, "delegates", Fail, "plugin ipvlan is in none of /opt/cni/bin: kube-system/d"},
		{"binDir", func(b *bed) {
			b.must(os.Remove(b.at("/opt/cni/bin/bridge")))
			b.file("/more/bridge", "", 0o755)
			b.options(map[string]any{"binDir": "/more"})
		}, "delegates", OK, "all in /more, /opt/cni/bin"},
	}
}

func stateTroubles() []trouble {
	return []trouble{
		{"no directory yet", func(b *bed) { b.must(os.Remove(b.at(stateDir))) }, "state", Warn, "does not exist yet"},
		{"a file in its place", func(b *bed) {
			b.must(os.Remove(b.at(stateDir)))
			b.file(stateDir, "", 0o600)
		}, "state", Fail, "is no directory"},
		{"read-only", func(b *bed) { b.tmpfs(stateDir, unix.MS_RDONLY, "") }, "state", Fail, "cannot be written to: read-only file system"},
		{"a full disk", func(b *bed) { b.tmpfs(stateDir, 0, "size=1m") }, "state", Fail, "1024 KiB free"},
		{"no inodes", func(b *bed) { b.tmpfs(stateDir, 0, "nr_inodes=20") }, "state", Fail, "inodes free"},
		{"others may write", func(b *bed) { b.file(stateDir+"/cluster.json", `{"version":1}`, 0o666) }, "state", Fail, "others may write to "},
		{"others may read", func(b *bed) { b.file(stateDir+"/cluster.json", `{"version":1}`, 0o644) }, "state", Warn, "(mode 0644)"},
		{"another's file", func(b *bed) {
			b.file(stateDir+"/journal/c", "", 0o600)
			b.must(os.Chown(b.at(stateDir+"/journal/c"), 1234, 0))
		}, "state", Fail, "belongs to user 1234"},
		{"a link", func(b *bed) { b.must(os.Symlink("/etc/passwd", b.at(stateDir+"/cluster.json"))) }, "state", Warn, "is a link"},
		{"a damaged last word", func(b *bed) { b.file(stateDir+"/cluster.json", "{", 0o600) }, "state", Warn, "the agent's last word"},
		{"others may look into it", func(b *bed) { b.must(os.Chmod(b.at(stateDir), 0o755)) }, "state", Warn, "/state (mode 0755)"},
		{"others may write into it", func(b *bed) { b.must(os.Chmod(b.at(stateDir), 0o777)) }, "state", Fail, "/state (mode 0777)"},
		{"a last word of a later version", func(b *bed) { b.file(stateDir+"/cluster.json", `{"version":9,"namespaces":[]}`, 0o600) }, "state", Warn, "upgrade the multiplexer plugin"},
		{"being uninstalled", func(b *bed) { b.file(stateDir+"/uninstalling", `{"since":"2026-01-02T03:04:05Z"}`, 0o600) }, "state", Warn, "is being uninstalled (begun 2026-01-02T03:04:05Z)"},
		{"uninstalled", uninstalled, "conf", Fail, "was uninstalled from this node (begun 2026-01-02T03:04:05Z)"},
		{"an uninstalled plugin", uninstalled, "plugin", NA, "it was uninstalled"},
		{"the state of an uninstalled node", uninstalled, "state", OK, "/state"},
		{"another stateDir", func(b *bed) { b.StateDir = "/elsewhere" }, "state", Warn, "/elsewhere does not exist"},
		{"a stateDir that uninstall refuses", func(b *bed) {
			b.StateDir = "/elsewhere"
			b.must(os.Mkdir(b.at("/elsewhere"), 0o700))
		}, "state", Warn, "--state-dir is /elsewhere, and stateDir of " + conf + " is " + stateDir},

		{"no agent", func(b *bed) { b.agent(); b.must(os.Remove(b.at("/run/agent.sock"))) }, "agent", Fail, "connect: no such file"},
		{"a dead agent", func(b *bed) { b.agent() }, "agent", Fail, "connection refused"},
		{"an agent of another version", func(b *bed) { otherAgent(b, 9) }, "agent", Fail, "upgrade the plugin on this node"},
		{"an agent that hangs", hangingAgent, "agent", Fail, "no answer in time"},
		{"no socket", func(b *bed) {
			b.options(map[string]any{"agentSocket": "/run/file"})
			b.file("/run/file", "", 0o600)
		}, "agent", Fail, "is no socket"},
		{"not ready", func(b *bed) { b.ready = http.StatusServiceUnavailable }, "agent", Warn, "it is not ready: not known yet: nodes"},
		{"an old agent", func(b *bed) { b.version = "v0" }, "agent", Warn, `the agent is version "v0", this tool "`},
		{"no HTTP", func(b *bed) { b.Metrics = "127.0.0.1:1" }, "agent", Warn, "not at 127.0.0.1:1"},
		{"none wanted", func(b *bed) { b.options(map[string]any{"agentSocket": ""}) }, "agent", NA, "/conf alone"},

		{"no ranges", func(b *bed) { b.options(map[string]any{"clusterCIDRs": []string{}}) }, "ranges", Warn, "no range of the cluster is known"},
		{"the node's slice alone", func(b *bed) {
			b.options(map[string]any{"clusterCIDRs": []string{}})
			b.file(stateDir+"/cluster.json", `{"version":1,"ranges":["10.0.0.1/32","10.244.7.0/24","10.96.0.0/12"]}`, 0o600)
		}, "ranges", Warn, "known are 10.96.0.0/12, 10.244.7.0/24"},
		{"ranges by the agent", func(b *bed) {
			b.options(map[string]any{"clusterCIDRs": []string{}})
			b.file(stateDir+"/cluster.json", `{"version":1,"ranges":["10.244.0.0/16","10.244.7.0/24"]}`, 0o600)
		}, "ranges", OK, "10.244.0.0/16, 10.244.7.0/24"},
		{"plain", func(b *bed) { b.options(map[string]any{"routing": map[string]string{"mode": "plain"}}) }, "ranges", NA, "plain"},

		{"a namespace that is gone", func(b *bed) { b.journal("c1", "/run/netns/gone", (*journal.Entry).Ready) }, "journals", Warn, "c1 (shop/web) is left over: its namespace is gone, and its 1 attachment is not"},
		{"a release that failed", func(b *bed) {
			b.journal("c2", "/run/netns/gone", func(e *journal.Entry) error {
				return errors.Join(e.Release("DEL"), e.Deleting(0), e.Failed(0, errors.New("no lease")))
			})
		}, "journals", Fail, `c2 (shop/web): its release failed 1 times: cluster network "pods" (eth0): no lease`},
		{"a release that was killed", func(b *bed) {
			b.journal("c3", "/run/netns/gone", func(e *journal.Entry) error { return e.Release("DEL") })
		}, "journals", Warn, "release interrupted (DEL)"},
		{"an ADD that was killed", func(b *bed) {
			b.journal("c4", nettest.Namespace(b, "pod-").Path(), func(*journal.Entry) error { return nil })
		}, "journals", Warn, "ADD interrupted"},
		{"a damaged journal", func(b *bed) { b.file(stateDir+"/journal/c5", "no journal\n", 0o600) }, "journals", Fail, "its journal is damaged"},
		{"a torn one", func(b *bed) {
			b.journal("c6", nettest.Namespace(b, "pod-").Path(), (*journal.Entry).Ready)
			f, err := os.OpenFile(b.at(stateDir+"/journal/c6"), os.O_APPEND|os.O_WRONLY, 0)
			b.must(err)
			_, err = f.WriteString("x\n")
			b.must(errors.Join(err, f.Close()))
		}, "journals", Warn, "1 lines of its journal are damaged"},
		{"a damaged plan line", func(b *bed) {
			b.journal("c8", nettest.Namespace(b, "pod-").Path(), func(e *journal.Entry) error { return errors.Join(e.Adding(1), e.Ready()) })
		}, "journals", Warn, "c8 (shop/web): a plan line of its journal is damaged"},
		{"one of a container that is gone", func(b *bed) {
			b.journal("c9", "/run/netns/gone", func(e *journal.Entry) error { return errors.Join(e.Adding(1), e.Ready()) })
		}, "journals", Fail, "c9 (shop/web) is left over: its namespace is gone, and its 2 attachments are not"},
		{"one that is being released", func(b *bed) {
			b.journal("c10", "/run/netns/gone", func(e *journal.Entry) error {
				return errors.Join(e.Adding(1), e.Release("DEL"), e.Deleting(0), e.Failed(0, errors.New("no lease")))
			})
		}, "journals", Fail, `c10 (shop/web): release failed (DEL), tries: 1: cluster network "pods" (eth0): no lease`},
		{"a directory among them", func(b *bed) { b.must(os.MkdirAll(b.at(stateDir+"/journal/c11"), 0o700)) }, "journals", Fail, "journal/c11 is no regular file"},
		{"a pod that lives", func(b *bed) {
			b.journal("c7", nettest.Namespace(b, "pod-").Path(), (*journal.Entry).Ready)
		}, "journals", OK, "1 containers"},
	}
}

// uninstalled takes conf and plugin off the node, as uninstall does.
func uninstalled(b *bed) {
	b.StateDir = stateDir // our conf named it
	b.file(stateDir+"/uninstalling", `{"since":"2026-01-02T03:04:05Z"}`, 0o600)
	b.must(os.Remove(b.at(conf)))
	b.must(os.Remove(b.at("/opt/cni/bin/multiplexer")))
}

// never makes the node one that multiplexer was never on.
func never(b *bed) {
	b.must(os.RemoveAll(b.at(stateDir)))
	b.must(os.Remove(b.at(conf)))
	b.must(os.Remove(b.at("/opt/cni/bin/multiplexer")))
	b.StateDir = stateDir // whatever this machine has
}

// Where multiplexer is not, one finding says so, and how to have it. Nothing of
// it is missing there.
func TestNodeWithoutMultiplexer(t *testing.T) {
	for name, c := range map[string]struct {
		make          func(*bed)
		words, remedy string
		longer        bool
	}{
		"never":          {never, "multiplexer is not on this node", "multiplexerd install", false},
		"uninstalled":    {uninstalled, "was uninstalled from this node", "multiplexerd install", false},
		"of a DaemonSet": {func(b *bed) { uninstalled(b); b.edit(stateDir+"/uninstalling", "{", `{"installation":"uid",`) }, "was uninstalled", "kubectl delete -f", true},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			c.make(b)
			b.agent()
			b.PodResources = b.at("/none.sock")
			for _, row := range b.Look(t.Context()).Rows {
				if row.Check != "conf" {
					if row.State != OK && row.State != NA {
						t.Errorf("%+v", row)
					}
					continue
				}
				if row.State != Fail || !strings.Contains(row.What, c.words) || !strings.Contains(row.Remedy, c.remedy) || len(row.Remedy) > 130 && !c.longer {
					t.Errorf("%+v", row)
				}
			}
			if n := len(b.find("conf")); n != 1 {
				t.Errorf("%d findings", n)
			}
		})
	}
}

// What does it where no agent marks what is left over.
func TestLeftOverWithoutAgent(t *testing.T) {
	for name, c := range map[string]struct {
		socket string
		marked bool
		has    string
	}{
		"an agent": {"/run/agent.sock", false, "the agent marks it"}, "none": {"", false, "touch " + stateDir + "/release/c1"},
		"none, marked": {"", true, "with its next calls"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			b.options(map[string]any{"agentSocket": c.socket})
			b.journal("c1", "/run/netns/gone", (*journal.Entry).Ready)
			if c.marked {
				b.file(stateDir+"/release/c1", "", 0o600)
			}
			f := b.find("journals")[0]
			if remedy := strings.ReplaceAll(f.Remedy, b.Root, ""); !strings.Contains(remedy, c.has) || strings.Contains(remedy, "see that the agent runs") != (c.socket != "") {
				t.Errorf("%+v", f)
			}
		})
	}
}

// unreachable is an API server that does not answer.
type unreachable struct{ err error }

func (u unreachable) May(context.Context, k8sclient.Right) (bool, error) { return false, u.err }
func (u unreachable) Definitions(context.Context) ([]k8sclient.Definition, error) {
	return nil, u.err
}

// The kind is to be applied where it is the kind that is missing.
func TestDefinitionsRemedy(t *testing.T) {
	for err, applies := range map[error]bool{k8sclient.ErrNoKind: true, errors.New("connection refused"): false} {
		b := newBed(t)
		b.Cluster = unreachable{err}
		if f := b.find("definitions")[0]; f.State != Fail || strings.Contains(f.Remedy, "apply ") != applies || !applies && !strings.Contains(f.Remedy, "can be reached") {
			t.Errorf("%+v", f)
		}
	}
}

// otherAgent is one that speaks another protocol.
func otherAgent(b *bed, protocol int) {
	b.agent()
	listener, err := agentapi.Listen(b.at("/run/agent.sock"))
	b.must(err)
	b.Cleanup(func() { b.must(listener.Close()) })
	go func() {
		conn, aerr := listener.Accept()
		if aerr != nil {
			return
		}
		_, _ = io.Copy(io.Discard, conn)
		_, _ = fmt.Fprintf(conn, `{"protocol":%d}`, protocol)
		_ = conn.Close()
	}()
}

// hangingAgent accepts and says nothing.
func hangingAgent(b *bed) {
	b.agent()
	b.must(os.Remove(b.at("/run/agent.sock")))
	listener, err := net.Listen("unix", b.at("/run/agent.sock"))
	b.must(err)
	b.Cleanup(func() { b.must(listener.Close()) })
}

func deviceTroubles() []trouble {
	resource := func(b *bed) {
		b.file(stateDir+"/cluster.json", `{"version":1,"definitions":[{"namespace":"kube-system","name":"d","resourceName":"intel.com/x","config":"{\"cniVersion\":\"1.0.0\",\"type\":\"sriov\"}"}]}`, 0o600)
	}
	return []trouble{
		{"no kubelet", func(b *bed) { b.PodResources = b.at("/none.sock") }, "kubelet", Warn, "does not exist"},
		{"no kubelet, where no agent asks it", func(b *bed) {
			b.options(map[string]any{"agentSocket": ""})
			b.PodResources = b.at("/none.sock")
		}, "kubelet", NA, `agentSocket is ""`},
		{"a dead kubelet", func(b *bed) { b.kubelet.RequireStop(b.T) }, "kubelet", Warn, "nobody listens"},
		{"a dead kubelet that is needed", func(b *bed) { b.kubelet.RequireStop(b.T); resource(b) }, "kubelet", Fail, "kube-system/d need it"},
		{"a kubelet that hangs", func(b *bed) { b.kubelet.Freeze(); b.Cleanup(b.kubelet.Thaw) }, "kubelet", Warn, "gave no answer in time"},
		{"a kubelet without Get", func(b *bed) { b.kubelet.SetGet(kubelettest.GetGateOff) }, "kubelet", OK, "not Get"},
		{"no directory to register in", func(b *bed) { b.file("/devices.json", "{}", 0o600) }, "kubelet", Fail, "neither plugins_registry nor device-plugins"},
		{"one to register in", func(b *bed) {
			b.file("/devices.json", "{}", 0o600)
			b.must(os.MkdirAll(b.at("/kubelet/device-plugins"), 0o755))
		}, "kubelet", OK, "Get, List"},

		{"free VFs", func(b *bed) { card(b) }, "VFs", OK, "1 free, of 0000:01:00.0"},
		{"a quarantined VF", func(b *bed) { claim(b, sriov.Record{Failed: "driver refused"}) }, "VFs", Fail, "VF 0 of 0000:01:00.0 (0000:01:10.0) is quarantined: driver refused"},
		{"a leaked VF", func(b *bed) { claim(b, sriov.Record{Pod: "shop/web"}) }, "VFs", Warn, "is leaked: pod shop/web has ended"},
		{"a damaged claim", func(b *bed) { card(b); b.file(stateDir+"/vf/0000:01:10.0.json", "{", 0o600) }, "VFs", Fail, "cannot be read"},
		{"a PF that is down", func(b *bed) { named(b, "down") }, "PFs", Warn, "PF ens1 is down: its 1 VFs have no link"},
		{"a PF that is up", func(b *bed) { named(b, "up") }, "PFs", OK, "ens1: up"},
	}
}

// card is a PF with a VF, as sysfs shows them without drivers.
func card(b *bed) string {
	b.Helper()
	devices := b.at("/sys/bus/pci/devices")
	for _, pci := range []string{"0000:01:00.0", "0000:01:10.0"} {
		b.must(os.MkdirAll(filepath.Join(devices, pci), 0o755))
	}
	b.must(os.WriteFile(filepath.Join(devices, "0000:01:00.0", "sriov_totalvfs"), []byte("8\n"), 0o600))
	b.must(os.Symlink("../0000:01:00.0", filepath.Join(devices, "0000:01:10.0", "physfn")))
	b.must(os.Symlink("../0000:01:10.0", filepath.Join(devices, "0000:01:00.0", "virtfn0")))
	return devices
}

// named is a card whose PF has a network device in a state.
func named(b *bed, operstate string) {
	b.Helper()
	b.must(os.MkdirAll(filepath.Join(card(b), "0000:01:00.0", "net", "ens1"), 0o755))
	b.file("/sys/class/net/ens1/operstate", operstate+"\n", 0o600)
}

// claim is a card whose VF is claimed.
func claim(b *bed, r sriov.Record) {
	b.Helper()
	card(b)
	r.PCI, r.PF, r.Container, r.IfName, r.Path = "0000:01:10.0", "0000:01:00.0", "c", "net1", "/run/netns/gone"
	raw, err := json.Marshal(r)
	b.must(err)
	b.file(stateDir+"/vf/0000:01:10.0.json", string(raw), 0o600)
}

// The rights that are asked for are those of deploy/rbac.yaml, no more.
func TestRightsAreTheManifests(t *testing.T) {
	raw, err := os.ReadFile("../../deploy/rbac.yaml")
	if err != nil {
		t.Fatal(err)
	}
	granted := map[string]bool{}
	for document := range strings.SplitSeq(string(raw), "\n---\n") {
		var role struct {
			Rules []struct{ APIGroups, Resources, Verbs []string }
		}
		if err = yaml.Unmarshal([]byte(document), &role); err != nil {
			t.Fatal(err)
		}
		for _, rule := range role.Rules {
			for _, verb := range rule.Verbs {
				granted[rule.APIGroups[0]+" "+rule.Resources[0]+" "+verb] = true
			}
		}
	}
	for _, r := range Rights() {
		resource := r.Resource
		if r.Subresource != "" {
			resource += "/" + r.Subresource
		}
		key := r.Group + " " + resource + " " + r.Verb
		if !granted[key] {
			t.Errorf("%s is not granted", key)
		}
		delete(granted, key)
	}
	for key := range granted {
		t.Errorf("%s is granted, and not asked for", key)
	}
}

// A look ends although everything hangs.
func TestLookEnds(t *testing.T) {
	b := newBed(t)
	hangingAgent(b)
	b.kubelet.Freeze()
	defer b.kubelet.Thaw()
	start := time.Now()
	if r := b.Look(t.Context()); !r.Failed() {
		t.Error("nothing failed")
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("it took %s", took)
	}
}

// JSON is stable: the keys of a row.
func TestReportJSON(t *testing.T) {
	raw, err := json.Marshal(Report{Version: "v1", Rows: []Row{{"conf", fail("do", "x %d", 1)}, {"kernel", ok("y")}}})
	const want = `{"version":"v1","rows":[{"check":"conf","state":"fail","what":"x 1","remedy":"do"},{"check":"kernel","state":"ok","what":"y"}]}`
	if err != nil || string(raw) != want {
		t.Errorf("%v: %s", err, raw)
	}
}

// What has a check of its own is told there, and not of the conf too.
func TestTroublesAreToldOnce(t *testing.T) {
	for _, gone := range []string{"/opt/cni/bin/multiplexer", confDir + "/10-pods.conflist"} {
		b := newBed(t)
		b.must(os.Remove(b.at(gone)))
		for _, f := range b.find("conf") {
			if f.State != OK {
				t.Errorf("without %s: %+v", gone, f)
			}
		}
	}
}
