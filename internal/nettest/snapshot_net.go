package nettest

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// netView is what a snapshot knows of one namespace while it is written.
type netView struct {
	label  string
	path   string
	handle *netlink.Handle
	names  map[int]string // of links, by index, with generated names made equal
}

// snapshotNamespace writes down one namespace.
func snapshotNamespace(s *sections, label, path string) error {
	handle, err := handleAt(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotNetns) {
		s.add(label, []string{label + " absent"})
		return nil
	}
	if err != nil {
		return err
	}
	defer handle.Close()
	v := &netView{label: label, path: path, handle: handle, names: map[int]string{}}
	for _, section := range []struct {
		title string
		lines func() ([]string, error)
	}{
		{"links", v.links}, // first: it learns the names
		{"addresses", v.addresses},
		{"routes", v.routes},
		{"rules", v.rules},
		{"sysctls", v.sysctls},
	} {
		lines, listErr := section.lines()
		if listErr != nil {
			return fmt.Errorf("list %s: %w", section.title, listErr)
		}
		s.add(label+" "+section.title, lines)
	}
	ruleset, err := v.ruleset()
	if err != nil {
		return err
	}
	s.addOrdered(label+" nftables", ruleset)
	return nil
}

// normalName hides the random part of the names that plugins generate. Equal
// lines stay in the snapshot, so the number of links still counts.
func normalName(name string) string {
	if regexp.MustCompile(`^veth[0-9a-f]{8}$`).MatchString(name) {
		return "veth*"
	}
	return name
}

func (v *netView) dev(index int) string {
	if name, ok := v.names[index]; ok {
		return name
	}
	return "unknown"
}

func (v *netView) links() ([]string, error) {
	links, err := dump(v.handle.LinkList)
	if err != nil {
		return nil, err
	}
	for _, link := range links {
		v.names[link.Attrs().Index] = normalName(link.Attrs().Name)
	}
	var lines []string
	for _, link := range links {
		attrs := link.Attrs()
		line := fmt.Sprintf("%s link %s type %s mtu %d", v.label, v.dev(attrs.Index), link.Type(), attrs.MTU)
		if attrs.Flags&net.FlagUp != 0 {
			line += " up"
		} else {
			line += " down"
		}
		if attrs.MasterIndex != 0 {
			line += " master " + v.dev(attrs.MasterIndex)
		}
		for _, name := range slices.Sorted(slices.Values(attrs.AltNames)) {
			line += " altname " + name
		}
		lines = append(lines, line)
	}
	return lines, nil
}

func (v *netView) addresses() ([]string, error) {
	addrs, err := dump(func() ([]netlink.Addr, error) { return v.handle.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, a := range addrs {
		if a.Flags&unix.IFA_F_PERMANENT == 0 {
			continue
		}
		line := fmt.Sprintf("%s address %s ", v.label, v.dev(a.LinkIndex))
		if a.IP.To4() == nil && a.IP.IsLinkLocalUnicast() {
			// Derived from the MAC, which nobody chose.
			lines = append(lines, line+"IPv6 link-local")
			continue
		}
		line += a.IPNet.String()
		if a.Peer != nil && a.Peer.String() != a.IPNet.String() {
			line += " peer " + a.Peer.String()
		}
		line += " scope " + netlink.Scope(a.Scope).String()
		if a.Flags&unix.IFA_F_NOPREFIXROUTE != 0 {
			line += " noprefixroute"
		}
		lines = append(lines, line)
	}
	return lines, nil
}

// sysctls reads what routing on several links turns. Names come from the
// directories, so a link that comes or goes is seen here too.
func (v *netView) sysctls() ([]string, error) {
	var lines []string
	err := inNetns(v.path, func() error {
		for _, pattern := range []string{
			"ipv4/ip_forward",
			"ipv4/conf/*/rp_filter",
			"ipv4/conf/*/arp_ignore",
			"ipv4/conf/*/arp_announce",
			"ipv6/conf/all/forwarding",
			"ipv6/conf/*/accept_ra",
			"ipv6/conf/*/autoconf",
		} {
			values, err := readSysctls(pattern)
			if err != nil {
				return err
			}
			for _, value := range values {
				lines = append(lines, v.label+" sysctl "+value)
			}
		}
		return nil
	})
	return lines, err
}

// readSysctls reads the sysctls of the calling thread's namespace whose path
// below net matches the pattern.
func readSysctls(pattern string) ([]string, error) {
	const root = "/proc/sys/net"
	paths, err := filepath.Glob(filepath.Join(root, pattern))
	if err != nil {
		return nil, err
	}
	var values []string
	for _, path := range paths {
		value, readErr := os.ReadFile(path)
		if errors.Is(readErr, fs.ErrNotExist) {
			continue // the link went away
		}
		if readErr != nil {
			return nil, readErr
		}
		parts := strings.Split(strings.TrimPrefix(path, root+"/"), "/")
		for i := range parts {
			parts[i] = normalName(parts[i])
		}
		values = append(values, fmt.Sprintf("%s = %s", strings.Join(parts, "/"), strings.TrimSpace(string(value))))
	}
	return values, nil
}
