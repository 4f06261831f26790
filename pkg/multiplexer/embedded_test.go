package multiplexer_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
	"github.com/multiplexer-cni/multiplexer/pkg/multiplexer"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// wire is an embedded plugin: a veth pair from the node to the pod, with an
// address from the IPAM plugin that its configuration names.
type wire struct{ node *nettest.Node }

type wireConf struct {
	CNIVersion string `json:"cniVersion"`
	IPAM       struct {
		Type string `json:"type"`
	} `json:"ipam"`
}

func (w wire) Run(ctx context.Context, call network.Call) ([]byte, error) {
	var conf wireConf
	if err := json.Unmarshal(call.Stdin, &conf); err != nil {
		return nil, err
	}
	ipam, err := call.Exec(ctx, conf.IPAM.Type, call)
	if err != nil {
		return nil, err
	}
	switch call.Command {
	case "ADD":
		return w.add(call, conf, ipam)
	case "DEL":
		return nil, w.del(call)
	}
	return nil, nil
}

func (w wire) add(call network.Call, conf wireConf, ipam []byte) ([]byte, error) {
	host := "w-" + call.ContainerID + call.IfName
	if err := call.State.Save([]byte(host)); err != nil {
		return nil, err
	}
	result := &current.Result{}
	if err := json.Unmarshal(ipam, result); err != nil {
		return nil, err
	}
	pod, err := netns.GetFromPath(call.Netns)
	if err != nil {
		return nil, err
	}
	defer pod.Close()
	handle, err := w.node.Handle()
	if err != nil {
		return nil, err
	}
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: host}, PeerName: call.IfName, PeerNamespace: netlink.NsFd(pod)}
	if err = handle.LinkAdd(veth); err != nil {
		return nil, err
	}
	inside, err := netlink.NewHandleAt(pod)
	if err != nil {
		return nil, err
	}
	defer inside.Close()
	link, err := inside.LinkByName(call.IfName)
	if err != nil {
		return nil, err
	}
	for _, ip := range result.IPs {
		if err = inside.AddrAdd(link, &netlink.Addr{IPNet: &ip.Address}); err != nil {
			return nil, err
		}
	}
	result.CNIVersion = conf.CNIVersion
	result.Interfaces = []*current.Interface{{Name: call.IfName, Sandbox: call.Netns}}
	return json.Marshal(result)
}

// del finds the link by what add saved: the name need not be derivable.
func (w wire) del(call network.Call) error {
	saved := string(call.State.Load())
	if saved == "" {
		return types.NewError(types.ErrInternal, "no state was kept", "")
	}
	handle, err := w.node.Handle()
	if err != nil {
		return err
	}
	link, err := handle.LinkByName(saved)
	if err != nil {
		return nil //nolint:nilerr // gone already
	}
	return handle.LinkDel(link)
}

// An embedded plugin inside a chain, attached twice to one pod, its IPAM run
// through the seam, with executables before and behind it.
func TestEmbeddedPluginInAChain(t *testing.T) {
	f := newFixture(t)
	wired := obj{
		"type": "wire", "capabilities": obj{"mac": true},
		"ipam": obj{"type": "host-local", "dataDir": f.file("ipam"), "ranges": []any{[]any{obj{"subnet": "10.60.0.0/24"}}}},
	}
	f.write("conf/a.conflist", obj{"cniVersion": "1.0.0", "name": "a", "plugins": []any{
		wired, f.plugin("10.61.0.0/24", nil),
	}})
	f.networks("a,a")
	p := &multiplexer.Plugin{
		Embedded: map[string]network.Embedded{"wire": wire{f.node}}, Stdout: io.Discard, Stderr: testWriter{t},
		BootIDPath: "/proc/sys/kernel/random/boot_id", Now: time.Now,
	}
	args := &skel.CmdArgs{
		ContainerID: "c1", Netns: f.netns, IfName: "eth0", Args: f.args,
		Path: f.path[0] + string(filepath.ListSeparator) + f.path[1], StdinData: f.stdin(nil),
	}
	before := f.snapshot()
	f.must(p.Add(t.Context(), args))
	handle, err := f.pod.Handle()
	f.must(err)
	for i, name := range []string{"net1", "net2"} {
		link, lerr := handle.LinkByName(name)
		f.must(lerr)
		addrs, lerr := handle.AddrList(link, netlink.FAMILY_V4)
		f.must(lerr)
		f.want(addrs[0].IP.String(), fmt.Sprintf("10.60.0.%d", i+2))
	}
	f.want(f.calls(), []string{"ADD cluster eth0", "ADD a net1", "ADD a net2"})
	var chained obj
	f.must(json.Unmarshal([]byte(f.called("ADD")[1].Stdin), &chained))
	if chained["prevResult"] == nil {
		t.Error("the plugin behind the embedded one got no prevResult")
	}
	f.must(p.Del(t.Context(), args))
	lease, err := filepath.Glob(f.file("ipam/a/10.*"))
	f.must(err)
	f.want(len(lease), 0)
	after := f.snapshot()
	nettest.RequireSame(t, withoutIPAM(before), withoutIPAM(after))
	// `embedded: []` sends the type back to the search path.
	args.StdinData = f.stdin(obj{"embedded": []string{}})
	if err = p.Add(t.Context(), args); err == nil {
		t.Error("an embedded type was run although embedded is []")
	}
	args.StdinData = f.stdin(obj{"embedded": []string{"fancy"}})
	if err = p.Add(t.Context(), args); err == nil {
		t.Error("an unknown embedded type was accepted")
	}
}

// testWriter sends a plugin's log to the test's.
type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(string(p))
	return len(p), nil
}
