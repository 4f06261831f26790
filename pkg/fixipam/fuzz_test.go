package fixipam

import (
	"encoding/json"
	"net/netip"
	"testing"

	"github.com/containernetworking/cni/pkg/types/create"
)

// Whatever comes in: no panic, and an address that goes out is of the subnet
// and not the gateway's, in a result that the library reads, and CHECK agrees.
func FuzzFixipam(f *testing.F) {
	f.Add(article, "IP=10.55.206.46")
	f.Add(with(`"runtimeConfig":{"ips":["10.55.206.5/26"]}`), "")
	f.Add(with(`"cniVersion":"0.3.1","args":{"cni":{"ips":["10.55.206.1"],"IP":"10.55.206.2"}}`), "")
	f.Add(ipam(`"subnet":"fd00::/64","gateway":"fd00::1","routes":[{"dst":"::/0","gw":"fe80::1","table":7}]`), "IP=fd00::7")
	f.Add(ipam(`"subnet":"10.0.0.0/31","gateway":"10.0.0.0","routes":[null]`), "a;IP=10.0.0.1/31")
	f.Add(`{"ipam":{"subnet":"0.0.0.0/0"},"prevResult":{"ips":[null],"ip4":{"ip":"1.2.3.4/0"}}}`, "IP=1.2.3.4")
	f.Fuzz(func(t *testing.T, stdin, args string) {
		_, _ = run(t, "CHECK", stdin, args)
		if out, err := run(t, "DEL", stdin, args); err != nil || out != "" {
			t.Fatalf("DEL: %q, %v", out, err)
		}
		out, err := run(t, "ADD", stdin, args)
		if err != nil {
			return
		}
		if _, err = create.CreateFromBytes([]byte(out)); err != nil {
			t.Fatalf("%s: %v", out, err)
		}
		var asked struct {
			IPAM struct{ Subnet, Gateway string }
		}
		if err = json.Unmarshal([]byte(stdin), &asked); err != nil {
			t.Fatal(err)
		}
		result := conf{PrevResult: json.RawMessage(out)}
		addresses, err := result.previous()
		if err != nil || len(addresses) != 1 {
			t.Fatalf("%s: %q, %v", out, addresses, err)
		}
		address := netip.MustParsePrefix(addresses[0])
		subnet := netip.MustParsePrefix(asked.IPAM.Subnet)
		if !subnet.Contains(address.Addr()) || subnet.Bits() != address.Bits() {
			t.Errorf("%s is not of %s", address, subnet)
		}
		if asked.IPAM.Gateway != "" && netip.MustParseAddr(asked.IPAM.Gateway) == address.Addr() {
			t.Errorf("%s is the gateway", address)
		}
	})
}
