package main

import (
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/multiplexer-cni/multiplexer/internal/demo/text"
	"github.com/multiplexer-cni/multiplexer/pkg/journal"
	"github.com/multiplexer-cni/multiplexer/pkg/routing"
)

// nic is a NIC of a pod: what it carries by the routing rules, and what else
// the kernel shows of it.
type nic struct {
	routing.Share
	network   string
	wanted    bool // for the default route, by the annotation
	addresses []*net.IPNet
	mtu       int
}

// carriers says who carries what in a pod.
type carriers struct {
	plan *routing.Plan // as ADD wrote it into the journal
	nics []nic
}

// readCarriers reads the plan of the routing rules in the journal, and asks
// the kernel what has become of it.
func readCarriers(pod *sandbox) (*carriers, error) {
	contents, err := (&journal.Store{Dir: stateDir, Now: time.Now}).Read(pod.id)
	if err != nil {
		return nil, fmt.Errorf("read the journal of %s: %w", pod.manifest, err)
	}
	if contents.Routing == nil {
		return nil, fmt.Errorf("%s has no routing rules: it needs a second network, and routing.mode must not be plain", pod.manifest)
	}
	c := &carriers{plan: &routing.Plan{}}
	if err = json.Unmarshal(contents.Routing, c.plan); err != nil {
		return nil, fmt.Errorf("decode the routing plan of %s: %w", pod.manifest, err)
	}
	kernel, err := routing.OpenPod(pod.Path())
	if err != nil {
		return nil, err
	}
	defer kernel.Close()
	shares, err := kernel.Carried(c.plan)
	if err != nil {
		return nil, err
	}
	for _, share := range shares {
		record := &contents.Records[share.Attachment]
		n := nic{Share: share, network: record.Reference, wanted: record.DefaultRoute != nil}
		if err = n.read(pod); err != nil {
			return nil, fmt.Errorf("read NIC %s: %w", n.Name, err)
		}
		c.nics = append(c.nics, n)
	}
	return c, nil
}

// read asks the kernel for the NIC's addresses and MTU.
func (n *nic) read(pod *sandbox) error {
	handle, err := pod.Handle()
	if err != nil {
		return err
	}
	link, err := handle.LinkByName(n.Name)
	if err != nil {
		return err
	}
	n.mtu = link.Attrs().MTU
	addrs, err := handle.AddrList(link, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	for _, addr := range addrs {
		n.addresses = append(n.addresses, addr.IPNet)
	}
	return nil
}

// carryWidth is how wide the column CARRIES may become.
const carryWidth = 34

// rows are the table of who carries what. The numbers of the kernel's tables
// are left out: `ip rule` shows them.
func (c *carriers) rows() [][]string {
	header := routing.ShareHeader()
	table := slices.Index(header, "TABLE")
	rows := [][]string{slices.Replace(header, table, table+1, "NETWORK", "ADDRESS", "MTU")}
	for i := range c.nics {
		n := &c.nics[i]
		var addresses []string
		for _, a := range n.addresses {
			addresses = append(addresses, a.String())
		}
		row := slices.Replace(n.TableRow(), table, table+1, n.network, strings.Join(addresses, ", "), strconv.Itoa(n.mtu))
		for j := range row {
			row[j] = text.Wrap(row[j], carryWidth)
		}
		rows = append(rows, row)
	}
	return rows
}

func (c *carriers) names() []string {
	var names []string
	for i := range c.nics {
		names = append(names, c.nics[i].Name)
	}
	return names
}

// nic returns the NIC of that name.
func (c *carriers) nic(name string) *nic {
	i := slices.IndexFunc(c.nics, func(n nic) bool { return n.Name == name })
	if i < 0 {
		return &nic{}
	}
	return &c.nics[i]
}

// everythingElse is the NIC that the pod's annotation lets carry what no other
// NIC does: eth0, unless one was given default-route.
func (c *carriers) everythingElse() string {
	if i := slices.IndexFunc(c.nics, func(n nic) bool { return n.wanted }); i >= 0 {
		return c.nics[i].Name
	}
	return c.nics[0].Name
}

// secondary is the first NIC besides eth0 that has an address.
func (c *carriers) secondary() (*nic, error) {
	i := slices.IndexFunc(c.nics, func(n nic) bool { return n.Attachment > 0 && len(n.addresses) > 0 })
	if i < 0 {
		return nil, fmt.Errorf("no second network: %s asks for none that has addresses", firstPod)
	}
	return &c.nics[i], nil
}
