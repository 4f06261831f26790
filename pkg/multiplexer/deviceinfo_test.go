package multiplexer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/go-cmp/cmp"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
	"github.com/multiplexer-cni/multiplexer/pkg/journal"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

const pciInfo = `{"type":"pci","version":"1.1.0","pci":{"pci-address":"0000:3b:02.1"}}`

// card is an embedded plugin that knows the file of its attachment.
type card struct {
	before map[string]string          // what was in the file at ADD, by interface
	write  func(ifname string) []byte // what ADD puts there; nil leaves it alone
	fail   map[string]string          // the next error of a verb
	told   []string                   // verb, interface and file of each call
	conf   string                     // of the last ADD
}

func (p *card) Run(_ context.Context, call network.Call) ([]byte, error) {
	var conf struct {
		CNIVersion    string `json:"cniVersion"`
		RuntimeConfig struct {
			File string `json:"CNIDeviceInfoFile"`
		} `json:"runtimeConfig"`
	}
	if err := json.Unmarshal(call.Stdin, &conf); err != nil {
		return nil, err
	}
	file := conf.RuntimeConfig.File
	p.told = append(p.told, strings.TrimSpace(call.Command+" "+call.IfName+" "+filepath.Base(file)))
	if call.Command == "ADD" {
		p.conf = string(call.Stdin)
		if err := p.add(call.IfName, file); err != nil {
			return nil, err
		}
	}
	if msg := p.fail[call.Command]; msg != "" {
		delete(p.fail, call.Command)
		return nil, types.NewError(types.ErrInternal, msg, "")
	}
	return fmt.Appendf(nil, `{"cniVersion":%q,"interfaces":[{"name":%q,"sandbox":%q}]}`, conf.CNIVersion, call.IfName, call.Netns), nil
}

func (p *card) add(ifname, file string) error {
	if file == "" {
		return nil
	}
	raw, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil {
		p.before[ifname] = string(raw)
	}
	if p.write == nil {
		return nil
	}
	return os.WriteFile(file, p.write(ifname), 0o644)
}

// devices is a node whose networks are cards, with a plugin in this process.
type devices struct {
	*testing.T
	plugin *Plugin
	card   *card
	log    bytes.Buffer
	dir    string
	netns  string
	stdin  map[string]any
}

func newDevices(t *testing.T) *devices {
	t.Helper()
	d := &devices{
		T: t, card: &card{before: map[string]string{}, fail: map[string]string{}}, dir: t.TempDir(), netns: nettest.Namespace(t, "pod-").Path(),
	}
	d.plugin = &Plugin{
		Embedded: map[string]network.Embedded{"card": d.card}, Stdout: &bytes.Buffer{}, Stderr: &d.log,
		BootIDPath: "/proc/sys/kernel/random/boot_id", Now: time.Now, DeviceInfoDir: d.file("devinfo"),
	}
	d.stdin = map[string]any{
		"cniVersion": "1.1.0", "name": "multiplexer", "type": "multiplexer", "agentSocket": "", "routing": map[string]any{"mode": "plain"},
		"clusterConfDir": d.file("net.d"), "confDir": d.file("conf"), "stateDir": d.file("state"),
	}
	d.put("net.d/10-cluster.conflist", d.list("cluster", false))
	d.put("conf/a.conflist", d.list("a", true))
	d.put("conf/plain.conflist", d.list("plain", false))
	return d
}

func (d *devices) file(name string) string { return filepath.Join(d.dir, name) }

func (d *devices) must(err error) {
	d.Helper()
	if err != nil {
		d.Fatal(err)
	}
}

func (d *devices) want(got, want any) {
	d.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		d.Errorf("want(-) got(+):\n%s", diff)
	}
}

func (d *devices) put(name, content string) {
	d.Helper()
	d.must(os.MkdirAll(filepath.Dir(d.file(name)), 0o755))
	d.must(os.WriteFile(d.file(name), []byte(content), 0o644))
}

// list is a network whose plugin knows the file, or does not.
func (d *devices) list(name string, knows bool) string {
	return fmt.Sprintf(`{"cniVersion":"1.0.0","name":%q,"plugins":[{"type":"card","capabilities":{"CNIDeviceInfoFile":%t,"mac":true}}]}`, name, knows)
}

func (d *devices) args() *skel.CmdArgs {
	d.Helper()
	raw, err := json.Marshal(d.stdin)
	d.must(err)
	return &skel.CmdArgs{ContainerID: "c1", Netns: d.netns, IfName: "eth0", Args: "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web", StdinData: raw}
}

// start begins a call, for tests below the verbs.
func (d *devices) start() *call {
	d.Helper()
	c, err := d.plugin.start(d.args(), strict)
	d.must(err)
	return c
}

// resource is an attachment with a device.
func (d *devices) resource(ifname, id string, knows bool) network.Attachment {
	d.Helper()
	list, err := network.ParseList("test", "", []byte(d.list("nic", knows)))
	d.must(err)
	return network.Attachment{List: *list, Reference: "shop/nic", Source: "test", IfName: ifname, Resource: "example.com/nic", DeviceID: id}
}

// attach is an ADD of nothing but these attachments. A failure is undone.
func (d *devices) attach(attachments ...network.Attachment) error {
	d.Helper()
	c := d.start()
	header, _, err := c.header()
	d.must(err)
	entry, err := c.fresh(d.Context())
	d.must(err)
	defer entry.Close()
	d.must(entry.Begin(header))
	_, err = c.record(entry, attachments...)
	d.must(err)
	for i := range attachments {
		if _, err = c.attach(d.Context(), entry, i); err != nil {
			return c.undo(d.Context(), entry, err)
		}
	}
	return entry.Ready()
}

func (d *devices) del() error { return d.plugin.Del(d.Context(), d.args()) }

// records are the journal's.
func (d *devices) records() []journal.Record {
	d.Helper()
	store := journal.Store{Dir: d.file("state"), Now: time.Now}
	contents, err := store.Read("c1")
	if errors.Is(err, journal.ErrAbsent) {
		return nil
	}
	d.must(err)
	return contents.Records
}

// known is the devices' information in the journal, by interface.
func (d *devices) known() map[string]string {
	d.Helper()
	out := map[string]string{}
	for _, r := range d.records() {
		if r.Device != nil {
			out[r.IfName] = string(r.Device)
		}
	}
	return out
}

// left are the attachments' files.
func (d *devices) left() []string {
	d.Helper()
	entries, err := os.ReadDir(d.file("devinfo/cni"))
	if !errors.Is(err, fs.ErrNotExist) {
		d.must(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// Plugins with the capability have a file of each attachment's own, where
// they leave what the journal keeps; others are told of none.
func TestDeviceInfoOfPlugins(t *testing.T) {
	d := newDevices(t)
	d.put("net.d/10-cluster.conflist", d.list("cluster", true))
	d.card.write = func(ifname string) []byte {
		return []byte(`{"type":"memif", "memif":{"path":"/` + ifname + `"}}` + "\n")
	}
	d.stdin["runtimeConfig"] = map[string]any{
		network.PodAnnotations: map[string]string{network.NetworksAnnotation: "a,plain,a"}, "mac": "02:00:00:00:00:01", "CNIDeviceInfoFile": "/forged",
	}
	d.must(d.plugin.Add(d.Context(), d.args()))
	if strings.Contains(d.card.conf, "02:00:00:00:00:01") {
		t.Errorf("the runtime's configuration reached a network of the pod's: %s", d.card.conf)
	}
	d.want(d.known(), map[string]string{
		"eth0": `{"type":"memif","memif":{"path":"/eth0"}}`, "net1": `{"type":"memif","memif":{"path":"/net1"}}`, "net3": `{"type":"memif","memif":{"path":"/net3"}}`,
	})
	d.want(d.left(), []string{"c1@a@net1.json", "c1@a@net3.json", "c1@cluster@eth0.json"})
	d.want(string(d.records()[0].CapabilityArgs["mac"]), `"02:00:00:00:00:01"`)
	d.must(d.del())
	d.want(d.left(), []string(nil))
	eth0, net1, net2, net3 := "eth0 c1@cluster@eth0.json", "net1 c1@a@net1.json", "net2 .", "net3 c1@a@net3.json"
	d.want(d.card.told, []string{
		"ADD " + eth0, "ADD " + net1, "ADD " + net2, "ADD " + net3,
		"DEL " + net3, "DEL " + net2, "DEL " + net1, "DEL " + eth0,
	})
	d.want(d.card.before, map[string]string{}) // no file is theirs to write
}

// What the device plugin says reaches the network's plugins, and, as they
// leave it, the journal.
func TestDeviceInfoOfADevice(t *testing.T) {
	d := newDevices(t)
	d.put("devinfo/dp/example.com-nic-0000:3b:02.1-device.json", pciInfo)
	d.put("devinfo/dp/example.com-nic-mlx-5-device.json", `{"type":"pci","version":"1.1.0","pci":{"pci-address":"x"}}`)
	d.card.write = func(ifname string) []byte {
		return bytes.ReplaceAll([]byte(d.card.before[ifname]), []byte(`"x"`), []byte(`"y"`))
	}
	// The plugin of the second does not know of the file.
	d.must(d.attach(d.resource("net1", "mlx/5", true), d.resource("net2", "0000:3b:02.1", false)))
	d.want(d.card.before, map[string]string{"net1": `{"type":"pci","version":"1.1.0","pci":{"pci-address":"x"}}`})
	d.want(d.known(), map[string]string{"net1": `{"type":"pci","version":"1.1.0","pci":{"pci-address":"y"}}`, "net2": pciInfo})
	d.want(d.left(), []string{"c1@nic@net1.json", "c1@nic@net2.json"})
	for name, mode := range map[string]fs.FileMode{"devinfo/cni": fs.ModeDir | 0o755, "devinfo/cni/c1@nic@net2.json": 0o644} {
		info, err := os.Lstat(d.file(name))
		d.must(err)
		d.want(info.Mode(), mode)
	}
	d.must(d.del())
	d.want(d.left(), []string(nil))
	dp, err := os.ReadDir(d.file("devinfo/dp"))
	d.must(err)
	d.want(len(dp), 2)
}

// Most device plugins say nothing; what cannot be used is left out. Neither
// hinders the pod.
func TestDeviceInfoUnusable(t *testing.T) {
	for name, c := range map[string]struct {
		place func(d *devices, path string)
		words string
	}{
		"absent":                    {func(*devices, string) {}, ""},
		"empty":                     {func(d *devices, path string) { d.must(os.WriteFile(path, nil, 0o644)) }, "empty or null"},
		"a list":                    {func(d *devices, path string) { d.must(os.WriteFile(path, []byte(`[1]`), 0o644)) }, "want an object"},
		"torn":                      {func(d *devices, path string) { d.must(os.WriteFile(path, []byte(pciInfo[:20]), 0o644)) }, "not valid JSON"},
		"hides others from clients": {func(d *devices, path string) { d.must(os.WriteFile(path, []byte(`{"pci":"x"}`), 0o644)) }, `\"pci\"`},
		"too large": {func(d *devices, path string) {
			d.must(os.WriteFile(path, []byte(`{"x":"`+strings.Repeat("x", 1<<20)+`"}`), 0o644))
		}, "more than 65536 bytes"},
		"a pipe":      {func(d *devices, path string) { d.must(syscall.Mkfifo(path, 0o644)) }, "no regular file"},
		"a directory": {func(d *devices, path string) { d.must(os.Mkdir(path, 0o755)) }, "no regular file"},
		"a link out":  {func(d *devices, path string) { d.must(os.Symlink(d.file("secret"), path)) }, "no regular file"},
		"a link in": {func(d *devices, path string) {
			d.put("devinfo/dp/other", pciInfo)
			d.must(os.Symlink(d.file("devinfo/dp/other"), path))
		}, "no regular file"},
	} {
		t.Run("from the device plugin: "+name, func(t *testing.T) {
			d := newDevices(t)
			d.put("secret", pciInfo)
			d.must(os.MkdirAll(d.file("devinfo/dp"), 0o755))
			c.place(d, d.file("devinfo/dp/example.com-nic-v1-device.json"))
			d.must(d.attach(d.resource("net1", "v1", true)))
			d.want(d.card.before, map[string]string{})
			d.want(d.known(), map[string]string{})
			d.said(c.words)
			d.must(d.del())
		})
		t.Run("from the plugin: "+name, func(t *testing.T) {
			d := newDevices(t)
			d.put("secret", pciInfo)
			d.plugin.Embedded["card"] = placing{d.card, func() { c.place(d, d.file("devinfo/cni/c1@nic@net1.json")) }}
			d.must(d.attach(d.resource("net1", "v1", true)))
			d.want(d.known(), map[string]string{})
			d.said(c.words)
			d.must(d.del())
			d.want(d.left(), []string(nil))
		})
	}
}

// placing is a card that leaves something else than a file.
type placing struct {
	*card
	place func()
}

func (p placing) Run(ctx context.Context, call network.Call) ([]byte, error) {
	out, err := p.card.Run(ctx, call)
	if call.Command == "ADD" {
		p.place()
	}
	return out, err
}

// said checks that there was a warning with these words, or none at all.
func (d *devices) said(words string) {
	d.Helper()
	warned := strings.Contains(d.log.String(), "device information")
	if warned != (words != "") || !strings.Contains(d.log.String(), words) {
		d.Errorf("want a warning of %q, got %s", words, d.log.String())
	}
}

// Nothing is read or written by way of a link that somebody planted.
func TestDeviceInfoLinksPlanted(t *testing.T) {
	plant := func(t *testing.T) *devices {
		d := newDevices(t)
		d.put("victim", "untouched")
		d.put("devinfo/dp/example.com-nic-v1-device.json", pciInfo)
		d.must(os.MkdirAll(d.file("devinfo/cni"), 0o755))
		t.Cleanup(func() {
			raw, err := os.ReadFile(d.file("victim"))
			d.must(err)
			d.want(string(raw), "untouched")
		})
		return d
	}
	for _, id := range []string{"v1", "unknown"} {
		t.Run("in place of the files, device "+id, func(t *testing.T) {
			d := plant(t)
			d.must(os.Symlink(d.file("victim"), d.file("devinfo/cni/c1@nic@net1.json")))
			d.must(os.Symlink(d.file("victim"), d.file("devinfo/cni/c1@nic@net1.json.tmp")))
			d.must(d.attach(d.resource("net1", id, true)))
			if id == "v1" {
				d.want(d.known(), map[string]string{"net1": pciInfo})
			}
			d.must(d.del())
			d.want(d.left(), []string(nil))
		})
	}
	t.Run("in place of the directory", func(t *testing.T) {
		d := plant(t)
		d.must(os.Remove(d.file("devinfo/cni")))
		d.put("elsewhere/c1@nic@net1.json", "theirs")
		d.must(os.Symlink(d.file("elsewhere"), d.file("devinfo/cni")))
		err := d.attach(d.resource("net1", "v1", true))
		if !errors.Is(err, network.IO) || !strings.Contains(err.Error(), "devinfo") {
			t.Errorf("error %v", err)
		}
		d.want(d.left(), []string{"c1@nic@net1.json"})
	})
}

// The file goes with its attachment: when ADD is undone, and only when the
// plugin's DEL succeeded.
func TestDeviceInfoUndone(t *testing.T) {
	d := newDevices(t)
	d.put("devinfo/dp/example.com-nic-v1-device.json", pciInfo)
	d.card.fail["ADD"] = "no such luck"
	if err := d.attach(d.resource("net1", "v1", true)); err == nil || !strings.Contains(err.Error(), "no such luck") {
		t.Errorf("error %v", err)
	}
	d.want(d.card.before, map[string]string{"net1": pciInfo})
	d.want(d.left(), []string(nil))
	d.want(d.records(), []journal.Record(nil))

	d.must(d.attach(d.resource("net1", "v1", true)))
	d.put("devinfo/cni/c1@nic@net1.json.tmp", "of a killed call")
	d.card.fail["DEL"] = "busy"
	if err := d.del(); err == nil || !strings.Contains(err.Error(), "busy") {
		t.Errorf("error %v", err)
	}
	d.want(len(d.left()), 2)
	d.must(d.del())
	d.want(d.left(), []string(nil))
}

// A file that cannot be removed is a network that is not detached.
func TestDeviceInfoNotRemoved(t *testing.T) {
	d := newDevices(t)
	d.must(d.attach(d.resource("net1", "v1", true)))
	d.put("devinfo/cni/c1@nic@net1.json/x", "")
	if err := d.del(); err == nil || !strings.Contains(err.Error(), "c1@nic@net1.json by hand") {
		t.Errorf("error %v", err)
	}
	d.want(d.records()[0].Step, journal.Deleting)
	d.must(os.RemoveAll(d.file("devinfo")))
	d.must(d.del())
	d.want(d.records(), []journal.Record(nil))
}

// A path that leads anywhere else is left alone, whoever wrote it.
func TestDeviceInfoPathForged(t *testing.T) {
	d := newDevices(t)
	d.put("victim", "")
	d.put("devinfo/dp/victim", "")
	d.put("devinfo/cni/below/victim", "")
	c := d.start()
	for _, path := range []string{
		d.file("victim"), d.file("devinfo/dp/victim"), d.file("devinfo/cni") + "/../dp/victim", d.file("devinfo/cni/below/victim"),
		d.file("devinfo/cni"), d.file("devinfo/cni") + "/.", d.file("devinfo/cni") + "/..", "victim", "/", "..",
	} {
		a := network.Attachment{DeviceInfoFile: path}
		d.want(c.deviceInfoFile(&a), "")
		d.must(c.dropDeviceInfo(&a))
	}
	for _, name := range []string{"victim", "devinfo/dp/victim", "devinfo/cni/below/victim"} {
		_, err := os.Stat(d.file(name))
		d.must(err)
	}
}

func TestDeviceInfoNames(t *testing.T) {
	seen := map[string]string{}
	long := strings.Repeat("c", 200)
	for _, key := range [][3]string{
		{"c", "n", "i"}, {"c", "n-i", "i"}, {"c-n", "i", "i"}, {"c", "n", "@i"}, {"c", "n", "i@i"}, {long, "n", "i"}, {long, long, "net1"}, {long, long, "net2"}, {long, long + "x", "net1"}, {"c", long + long, "net1"},
	} {
		name := deviceInfoName(key[0], key[1], key[2])
		if other, ok := seen[name]; ok || len(name)+len(deviceInfoTemp) > 255 || strings.Contains(name, "/") || !strings.HasPrefix(name, key[0]+"@") {
			t.Errorf("%q is the name for %q, and for %q", name, key, other)
		}
		seen[name] = fmt.Sprint(key)
	}
}

// A plugin without the directory hands no file out.
func TestDeviceInfoOff(t *testing.T) {
	d := newDevices(t)
	d.plugin.DeviceInfoDir = ""
	d.must(d.attach(d.resource("net1", "v1", true)))
	d.want(d.records()[0].DeviceInfoFile, "")
	d.must(d.del())
	d.want(d.card.told, []string{"ADD net1 .", "DEL net1 ."})
}
