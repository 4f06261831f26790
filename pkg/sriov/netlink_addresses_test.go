package sriov_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// The kernel breaks a long list off when addresses change meanwhile: a node
// with kube-proxy in IPVS mode has one for each service.
func TestAddressesWhileTheyChange(t *testing.T) {
	host, h := realNode(t)
	if err := h.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "many"}, PeerName: "far"}); err != nil {
		t.Fatal(err)
	}
	link, err := h.LinkByName("many")
	if err != nil {
		t.Fatal(err)
	}
	const services = 900
	address := func(i int) *netlink.Addr {
		a, parseErr := netlink.ParseAddr(fmt.Sprintf("10.9.%d.%d/32", i/200, i%200+1))
		if parseErr != nil {
			t.Fatal(parseErr)
		}
		return a
	}
	for i := range services {
		if err = h.AddrAdd(link, address(i)); err != nil {
			t.Fatal(err)
		}
	}
	stop, stopped := make(chan struct{}), make(chan error)
	go func() {
		last := address(services)
		for {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
			if changeErr := h.AddrAdd(link, last); changeErr != nil {
				stopped <- changeErr
				return
			}
			if changeErr := h.AddrDel(link, last); changeErr != nil {
				stopped <- changeErr
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	for range 500 {
		found, listErr := host.Addresses(link.Attrs().Index)
		if listErr != nil || len(found) < services {
			t.Errorf("%d addresses: %v", len(found), listErr)
			break
		}
	}
	close(stop)
	if err = <-stopped; err != nil {
		t.Fatal(err)
	}
}
