package sriovkube

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// cards is what the node's PFs and VFs are like: what the PF says of each VF,
// and each VF's network device by address.
func (n *node) cards() (string, error) {
	return n.sh(`for pf in 0000:01:00.0 0000:02:00.0; do
		ip -d link show dev "$(ls /sys/bus/pci/devices/$pf/net)" | grep -v qdisc
	done
	for dev in /sys/bus/pci/devices/*/physfn; do
		vf=${dev%/physfn}
		echo "${vf##*/} $(basename "$(readlink "$vf/driver")")"
		for nic in "$vf"/net/*; do
			[ ! -e "$nic" ] || ip link show dev "${nic##*/}" | sed 's/^[0-9]*: //; s/NO-CARRIER,//; s/,LOWER_UP//; s/ state [A-Z]*//'
		done
	done`)
}

// home makes the test fail if it ends with the node's cards in another state
// than now, or with something that a pod had.
func (n *node) home(t *testing.T) {
	t.Helper()
	before, err := n.cards()
	must(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			return // the pods are there yet
		}
		eventually(t, "the VFs of "+n.name+" are home", func() error {
			after, cardsErr := n.cards()
			if cardsErr != nil {
				return cardsErr
			}
			if after != before {
				return fmt.Errorf("before:\n%s\nafter:\n%s", before, after)
			}
			return n.nothingLeft()
		})
	})
}

// nothingLeft says what is left of pods: claims of VFs, and files about them.
func (n *node) nothingLeft() error {
	vfs, err := n.listed()
	if err != nil {
		return err
	}
	for pci, vf := range vfs {
		if vf.State != "free" {
			return fmt.Errorf("VF %s: %+v", pci, vf)
		}
	}
	for _, pattern := range []string{deviceInfoDir + "/cni/*", "/var/lib/cni/multiplexer/vf/*.json", "/var/lib/cni/multiplexer/journal/*"} {
		if found, globErr := n.machine.Glob(pattern); globErr != nil || len(found) > 0 {
			return fmt.Errorf("%s: %v, %w", pattern, found, globErr)
		}
	}
	return nil
}

// listedVF is a VF as `multiplexerd vfs` shows it.
type listedVF struct {
	PCI   string
	State string
	Pod   string
}

func (n *node) listed() (map[string]listedVF, error) {
	binary, err := nettest.AgentPath()
	if err != nil {
		return nil, err
	}
	raw, err := n.machine.Output(binary, "vfs", "-o", "json")
	if err != nil {
		return nil, err
	}
	var rows []listedVF
	if err = json.Unmarshal([]byte(raw), &rows); err != nil {
		return nil, fmt.Errorf("%w: %s", err, raw)
	}
	vfs := map[string]listedVF{}
	for _, row := range rows {
		vfs[row.PCI] = row
	}
	return vfs, nil
}

// vfsOf are the addresses of a PF's VFs, in order.
func (n *node) vfsOf(t *testing.T, pf string) []string {
	t.Helper()
	links, err := n.machine.Glob("/sys/bus/pci/devices/" + pf + "/virtfn*")
	must(t, err)
	var vfs []string
	for _, link := range links {
		to, linkErr := n.machine.Readlink(link)
		must(t, linkErr)
		vfs = append(vfs, path.Base(to))
	}
	slices.Sort(vfs)
	return vfs
}

// readGrants asks kubelet what it gave to the pod's containers.
func (p *pod) readGrants(t *testing.T) map[string]map[string][]string {
	t.Helper()
	raw, err := p.node.machine.Output(p.look)
	must(t, err)
	var all map[string]map[string]map[string][]string
	must(t, json.Unmarshal([]byte(raw), &all))
	mine := all["default/"+p.name]
	for _, resources := range mine {
		for _, devices := range resources {
			slices.Sort(devices)
		}
	}
	return mine
}

// deviceInfoOf is what the files of the device information say of the pod's
// interface: the attachment's, and the device plugin's for that device.
func (p *pod) deviceInfoOf(t *testing.T, network, ifname, resource, device string) (attachment, plugin string) {
	t.Helper()
	files, err := p.node.machine.Glob(deviceInfoDir + "/cni/*@" + network + "@" + ifname + ".json") // one pod at a time has it so
	must(t, err)
	var found []string
	for _, file := range append(files, fmt.Sprintf("%s/dp/%s-%s-device.json", deviceInfoDir, strings.ReplaceAll(resource, "/", "-"), device)) {
		raw, readErr := p.node.machine.Read(file)
		must(t, readErr)
		var info deviceInfo
		must(t, json.Unmarshal(raw, &info))
		found = append(found, info.address())
	}
	if len(found) != 2 {
		t.Fatalf("device information of %s, %s: %v", network, ifname, files)
	}
	return found[0], found[1]
}
