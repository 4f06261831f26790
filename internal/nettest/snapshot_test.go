package nettest

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A snapshot that overlooks one kind of leak makes every leak test blind to it.
// Each case leaks one thing and must see exactly the lines that show it.
func TestSnapshotSees(t *testing.T) {
	tests := []struct {
		name string
		leak func(t *testing.T, l *leaky)
		want []string
	}{
		{"link", func(t *testing.T, l *leaky) { addVeth(t, l.ns, "x0", "x1") },
			[]string{"ns link x0 type veth mtu 1500 up", "ns link x1 type veth mtu 1500 up"}},
		{"generated names count", func(t *testing.T, l *leaky) { addVeth(t, l.ns, "veth0a1b2c3d", "vethdeadbeef") },
			[]string{"ns link veth* type veth mtu 1500 up", "ns link veth* type veth mtu 1500 up"}},
		{"master", func(t *testing.T, l *leaky) {
			l.ip(t, "link", "add", "br0", "type", "bridge")
			l.ip(t, "link", "set", "d0", "master", "br0")
		},
			[]string{"ns link br0 type bridge mtu 1500 down", "ns link d0 type veth mtu 1500 up master br0"}},
		{"mtu", func(t *testing.T, l *leaky) { l.ip(t, "link", "set", "d0", "mtu", "1400") },
			[]string{"ns link d0 type veth mtu 1400 up"}},
		{"link down", func(t *testing.T, l *leaky) { l.ip(t, "link", "set", "d1", "down") },
			[]string{"ns link d1 type veth mtu 1500 down"}},
		{"altname", func(t *testing.T, l *leaky) { l.ip(t, "link", "property", "add", "dev", "d0", "altname", "other") },
			[]string{"ns link d0 type veth mtu 1500 up altname other"}},
		{"address", func(t *testing.T, l *leaky) { l.ip(t, "address", "add", "10.3.0.1/24", "dev", "d0") },
			[]string{"ns address d0 10.3.0.1/24 scope universe", "ns route inet table main 10.3.0.0/24 dev d0 proto kernel scope link src 10.3.0.1"}},
		{"route in table 100", func(t *testing.T, l *leaky) { l.ip(t, "route", "add", "10.4.0.0/16", "dev", "d0", "table", "100") },
			[]string{"ns route inet table 100 10.4.0.0/16 dev d0 proto boot scope link"}},
		{"default route", func(t *testing.T, l *leaky) {
			l.ip(t, "route", "add", "default", "via", "10.2.0.9", "metric", "7", "mtu", "1300")
		}, []string{"ns route inet table main default via 10.2.0.9 dev d0 proto boot scope universe metric 7 mtu 1300"}},
		{"IPv6 multipath", func(t *testing.T, l *leaky) {
			l.ip(t, "-6", "route", "add", "fd09::/64", "nexthop", "via", "fd02::8", "dev", "d0", "nexthop", "via", "fd02::9", "dev", "d0")
		}, []string{"ns route inet6 table main fd09::/64 nexthop via fd02::8 dev d0 weight 1 nexthop via fd02::9 dev d0 weight 1 proto boot scope universe metric 1024"}},
		{"blackhole in the local table", func(t *testing.T, l *leaky) { l.ip(t, "route", "add", "blackhole", "10.5.0.0/16", "table", "255") },
			[]string{"ns route inet table local 10.5.0.0/16 type 6 proto boot scope universe"}},
		{"rule", func(t *testing.T, l *leaky) {
			l.ip(t, "rule", "add", "priority", "30000", "from", "10.2.0.1", "lookup", "30001")
		}, []string{"ns rule inet 30000: from 10.2.0.1/32 lookup 30001"}},
		{"IPv6 rule", func(t *testing.T, l *leaky) {
			l.ip(t, "-6", "rule", "add", "priority", "9", "to", "fd05::/64", "iif", "lo", "fwmark", "3", "lookup", "main")
		}, []string{"ns rule inet6     9: from all to fd05::/64 iif lo fwmark 0x3/0xffffffff lookup main"}},
		{"nft table", func(t *testing.T, l *leaky) { l.run(t, "nft", "add", "table", "inet", "leak") },
			[]string{"ns nft [table inet leak]"}},
		{"nft rule", func(t *testing.T, l *leaky) {
			l.run(t, "nft", "add table ip a; add chain ip a c; add rule ip a c counter drop")
		}, []string{"ns nft [table ip a]", "ns nft [table ip a] [chain c]", "ns nft [table ip a] [chain c] counter drop"}},
		{"sysctl", func(t *testing.T, l *leaky) { l.run(t, "sh", "-c", "echo 2 > /proc/sys/net/ipv4/conf/d0/arp_announce") },
			[]string{"ns sysctl ipv4/conf/d0/arp_announce = 2"}},
		{"file", func(t *testing.T, l *leaky) { l.write(t, "sub/new", "text") },
			[]string{"file DIR/sub/new -rw-r--r-- sha256 982d9e3eb996f559"}},
		{"changed content", func(t *testing.T, l *leaky) { l.write(t, "kept", "othe!") },
			[]string{"file DIR/kept -rw-r--r-- sha256 78e3c9f93a25e92f"}},
		{"lock", func(t *testing.T, l *leaky) { l.lock(t) },
			[]string{"lock DIR/kept FLOCK WRITE held"}},
		{"process in the namespace", func(t *testing.T, l *leaky) { l.start(t, exec.Command("sleep", "60"), true) },
			[]string{`process sleep (argv0 "sleep"): in namespace ns`}},
		{"process that holds a file", func(t *testing.T, l *leaky) {
			cmd := exec.Command("sleep", "60")
			cmd.Stdin = l.open(t)
			l.start(t, cmd, false)
		}, []string{`process sleep (argv0 "sleep"): holds DIR/kept open`}},
		{"process from a directory", func(t *testing.T, l *leaky) {
			l.start(t, exec.Command(filepath.Join(l.bin, "recorder"), "hold", "60s"), false)
		}, []string{"process recorder (argv0 \"BIN/recorder\"): runs BIN/recorder"}},
		{"name", func(t *testing.T, l *leaky) { l.name = Namespace(t, l.prefix()).Name() },
			[]string{"netns NAME"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			l := newLeaky(t)
			before := l.snapshot(t)
			RequireSame(t, before, l.snapshot(t))
			test.leak(t, l)
			after := l.snapshot(t)
			got := l.added(t, before, after)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("lines that the leak added (-want +got):\n%s", diff)
			}
		})
	}
}

// In another mount namespace the path is that of another directory.
func TestSnapshotIgnoresTheSamePathElsewhere(t *testing.T) {
	l := newLeaky(t)
	before := l.snapshot(t)
	cmd := exec.Command("unshare", "--mount", "sh", "-c", "mount -t tmpfs none "+l.dir+" && exec 3>"+l.dir+"/kept && echo && exec sleep 60")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	l.start(t, cmd, false)
	if _, err = out.Read(make([]byte, 1)); err != nil {
		t.Fatalf("the other process: %v", err)
	}
	RequireSame(t, before, l.snapshot(t))
}

func TestSnapshotOfNothing(t *testing.T) {
	RequireRoot(t)
	dir := t.TempDir()
	got := RequireSnapshot(t, SnapshotOptions{
		Namespaces: map[string]string{"gone": netnsDir + "/no-such-name", "file": "/etc/passwd"},
		Dirs:       []SnapshotDir{{Path: filepath.Join(dir, "none"), Label: "NONE"}, {Path: dir, Label: "EMPTY"}},
	})
	want := `== file
file absent
== gone
gone absent
== files of NONE
file NONE absent
== files of EMPTY
== processes
== locks
`
	RequireSame(t, want, got)
}

func TestSnapshotOfTheMachine(t *testing.T) {
	RequireRoot(t)
	got := RequireSnapshot(t, SnapshotOptions{Namespaces: map[string]string{"machine": "/proc/self/ns/net"}})
	if !strings.Contains(got, "machine link lo type device") || strings.Contains(got, "in namespace machine") {
		t.Errorf("snapshot of the machine:\n%s", got)
	}
}

func TestSnapshotFileDetails(t *testing.T) {
	RequireRoot(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("a\nb"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("f", filepath.Join(dir, "l")); err != nil {
		t.Fatal(err)
	}
	for detail, want := range map[FileDetail]string{
		FileMeta:    "file D/f -rw------- size 3\nfile D/l Lrwxrwxrwx f\n",
		FileHash:    "file D/f -rw------- sha256 7e18f737311b2dc3\nfile D/l Lrwxrwxrwx f\n",
		FileContent: "file D/f \"a\\nb\"\nfile D/l Lrwxrwxrwx f\n",
		FileName:    "file D/f\nfile D/l\n",
	} {
		got := RequireSnapshot(t, SnapshotOptions{Dirs: []SnapshotDir{{Path: dir, Label: "D", Files: detail}}})
		RequireSame(t, "== files of D\n"+want+"== processes\n== locks\n", got)
	}
}

// leaky is a namespace with a veth pair and a directory with a file, to leak
// into.
type leaky struct {
	ns   *NS
	dir  string
	bin  string // a directory with the recorder
	name string // of a namespace that is made on the way
}

func newLeaky(t *testing.T) *leaky {
	t.Helper()
	l := &leaky{ns: Namespace(t, "leak-"), dir: t.TempDir(), bin: RecorderAs(t, "recorder")}
	l.write(t, "kept", "text")
	l.run(t, "sh", "-c", "echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad; echo 1 > /proc/sys/net/ipv6/conf/default/addr_gen_mode")
	addPair(t, l.ns, "d0", l.ns, "d1", "10.2.0.1/24", "fd03::1/64", "fd02::1/64")
	if err := l.ns.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *leaky) prefix() string { return l.ns.Name() + "-" }

func (l *leaky) snapshot(t *testing.T) string {
	t.Helper()
	return RequireSnapshot(t, SnapshotOptions{
		Namespaces: map[string]string{"ns": l.ns.Path()},
		Dirs: []SnapshotDir{
			{Path: l.dir, Label: "DIR", Files: FileHash},
			{Path: l.bin, Label: "BIN", Files: FileName},
		},
		NetnsPrefix: l.prefix(),
	})
}

// added returns the lines that are new, without what a link brings along.
func (l *leaky) added(t *testing.T, before, after string) []string {
	t.Helper()
	old := map[string]int{}
	for line := range strings.Lines(before) {
		old[line]++
	}
	var added []string
	links := strings.Count(after, "\nns link ") != strings.Count(before, "\nns link ")
	for line := range strings.Lines(after) {
		if old[line]--; old[line] >= 0 {
			continue
		}
		if links && (strings.HasPrefix(line, "ns sysctl") || strings.HasPrefix(line, "ns route inet6") || strings.HasPrefix(line, "ns address")) {
			continue
		}
		line = strings.ReplaceAll(strings.TrimSuffix(line, "\n"), l.bin, "BIN")
		if l.name != "" {
			line = strings.ReplaceAll(line, l.name, "NAME")
		}
		added = append(added, line)
	}
	return added
}

func (l *leaky) run(t *testing.T, name string, args ...string) {
	t.Helper()
	node := &Node{NS: l.ns}
	if _, err := node.Output(name, args...); err != nil {
		t.Fatal(err)
	}
}

func (l *leaky) ip(t *testing.T, args ...string) {
	t.Helper()
	l.run(t, "ip", args...)
}

func (l *leaky) write(t *testing.T, name, content string) {
	t.Helper()
	path := filepath.Join(l.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (l *leaky) open(t *testing.T) *os.File {
	t.Helper()
	file, err := os.Open(filepath.Join(l.dir, "kept"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	return file
}

func (l *leaky) lock(t *testing.T) {
	t.Helper()
	if err := unix.Flock(int(l.open(t).Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
}

// start starts a process that the end of the test kills.
func (l *leaky) start(t *testing.T, cmd *exec.Cmd, inside bool) {
	t.Helper()
	start := cmd.Start
	if inside {
		start = func() error { return l.ns.Do(cmd.Start) }
	}
	if err := start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
}

// What the kernel lists one by one must read like what `ip` prints.
func TestRouteText(t *testing.T) {
	_, subnet, err := net.ParseCIDR("10.0.0.0/8")
	if err != nil {
		t.Fatal(err)
	}
	v := &netView{label: "ns", names: map[int]string{1: "eth0"}}
	got := v.route(netlink.Route{Family: netlink.FAMILY_V4, Table: 30001, Type: unix.RTN_UNICAST, Dst: subnet, LinkIndex: 1,
		Gw: net.IPv4(10, 0, 0, 1), Flags: unix.RTNH_F_ONLINK | unix.RTNH_F_LINKDOWN, Src: net.IPv4(10, 0, 0, 2), AdvMSS: 1400})
	want := "ns route inet table 30001 10.0.0.0/8 via 10.0.0.1 dev eth0 onlink proto unspec scope universe src 10.0.0.2 advmss 1400"
	if !strings.EqualFold(got, want) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
