package fixipam

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// article is the configuration of the article that the project began from.
const article = `{
    "name": "mynet",
    "type": "sriov",
    "master": "eth1",
    "ipam": {
        "type": "fixipam",
        "subnet": "10.55.206.0/26",
        "routes": [
            { "dst": "0.0.0.0/0" }
        ],
        "gateway": "10.55.206.1"
    }
}`

func run(command, stdin, args string) (string, error) {
	out, err := Plugin{}.Run(nil, network.Call{Command: command, Stdin: []byte(stdin), Args: args}) //nolint:staticcheck // it uses none
	return string(out), err
}

func with(keys string) string { return strings.Replace(article, "{", "{"+keys+",", 1) }

func TestResults(t *testing.T) {
	for version, want := range map[string]string{
		"":      `{"cniVersion":"0.1.0","ip4":{"ip":"10.55.206.46/26","gateway":"10.55.206.1","routes":[{"dst":"0.0.0.0/0"`,
		"0.3.1": `{"cniVersion":"0.3.1","ips":[{"version":"4","address":"10.55.206.46/26","gateway":"10.55.206.1"}],"routes":[{"dst":"0.0.0.0/0"}]`,
		"0.4.0": `{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.55.206.46/26","gateway":"10.55.206.1"}],"routes":[{"dst":"0.0.0.0/0"}]`,
		"1.0.0": `{"cniVersion":"1.0.0","ips":[{"address":"10.55.206.46/26","gateway":"10.55.206.1"}],"routes":[{"dst":"0.0.0.0/0"}]`,
		"1.1.0": `{"cniVersion":"1.1.0","ips":[{"address":"10.55.206.46/26","gateway":"10.55.206.1"}],"routes":[{"dst":"0.0.0.0/0"}]`,
	} {
		stdin := article
		if version != "" {
			stdin = with(`"cniVersion":"` + version + `"`)
		}
		got, err := run("ADD", stdin, "IgnoreUnknown=1;IP=10.55.206.46")
		if err != nil || !strings.HasPrefix(got, want) {
			t.Errorf("%q: %v\n got %s\nwant %s", version, err, got, want)
		}
	}
}

// Who asks, and who is heard.
func TestAsked(t *testing.T) {
	for name, c := range map[string]struct{ stdin, args, want string }{
		"runtimeConfig first": {with(`"runtimeConfig":{"ips":["10.55.206.5/26"]},"args":{"cni":{"ips":["10.55.206.6"]}}`), "IP=10.55.206.7", "10.55.206.5/26"},
		"args.cni second":     {with(`"args":{"cni":{"ips":["10.55.206.6"]}}`), "IP=10.55.206.7", "10.55.206.6/26"},
		"CNI_ARGS last":       {article, "IP=10.55.206.7/26", "10.55.206.7/26"},
		"IPv6":                {`{"cniVersion":"1.0.0","ipam":{"subnet":"fd00::/64"}}`, "IP=fd00::7", "fd00::7/64"},
		"point to point":      {`{"cniVersion":"1.0.0","ipam":{"subnet":"10.0.0.0/31","gateway":"10.0.0.0"}}`, "IP=10.0.0.1", "10.0.0.1/31"},
	} {
		got, err := run("ADD", c.stdin, c.args)
		if err != nil || !strings.Contains(got, `"`+c.want+`"`) {
			t.Errorf("%s: %v: %s", name, err, got)
		}
	}
}

func TestRefused(t *testing.T) {
	for name, c := range map[string]struct{ stdin, args, want string }{
		"nobody asks":       {article, "", "the pod asks for no address"},
		"two":               {with(`"runtimeConfig":{"ips":["10.55.206.5","10.55.206.6"]}`), "", "runtimeConfig.ips: 2 addresses, want one"},
		"outside":           {article, "IP=10.55.206.64", "IP of CNI_ARGS 10.55.206.64: is not in ipam.subnet 10.55.206.0/26"},
		"the gateway":       {article, "IP=10.55.206.1", "10.55.206.1: is the gateway"},
		"the network":       {article, "IP=10.55.206.0", "is the address of the network"},
		"broadcast":         {article, "IP=10.55.206.63", "is the broadcast address"},
		"another prefix":    {article, "IP=10.55.206.5/24", `"10.55.206.5/24": want an address of 10.55.206.0/26, with /26 or without`},
		"no address":        {article, "IP=ten", `IP of CNI_ARGS "ten": want an address of 10.55.206.0/26`},
		"IPv4 in IPv6":      {article, "IP=::ffff:10.55.206.5", "want an address of"},
		"a zone":            {article, "IP=fe80::1%eth0", "want an address of"},
		"multicast":         {article, "IP=224.0.0.1", "want an address of"},
		"no subnet":         {`{"ipam":{}}`, "IP=10.0.0.1", `ipam.subnet "": want the network's prefix`},
		"a foreign gateway": {`{"ipam":{"subnet":"10.0.0.0/24","gateway":"10.0.1.1"}}`, "IP=10.0.0.2", "ipam.gateway 10.0.1.1: is not in"},
		"a route":           {`{"ipam":{"subnet":"10.0.0.0/24","routes":[{"gw":"10.0.0.1"}]}}`, "IP=10.0.0.2", "ipam.routes[0]"},
		"no JSON":           {`{`, "IP=10.0.0.2", "configuration"},
	} {
		if _, err := run("ADD", c.stdin, c.args); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestOtherVerbs(t *testing.T) {
	for _, verb := range []string{"DEL", "GC", "STATUS"} {
		if out, err := run(verb, "nonsense", ""); err != nil || out != "" {
			t.Errorf("%s: %q, %v", verb, out, err)
		}
	}
	result, err := run("ADD", with(`"cniVersion":"1.0.0"`), "IP=10.55.206.46")
	if err != nil {
		t.Fatal(err)
	}
	checked := with(`"cniVersion":"1.0.0","prevResult":` + result)
	if _, err = run("CHECK", checked, "IP=10.55.206.46"); err != nil {
		t.Error(err)
	}
	if _, err = run("CHECK", checked, "IP=10.55.206.47"); err == nil {
		t.Error("CHECK of another address passed")
	}
}

// A returned address is always a host's of the subnet, and nobody's gateway.
func FuzzFixipam(f *testing.F) {
	f.Add(article, "IP=10.55.206.46")
	f.Add(with(`"runtimeConfig":{"ips":["10.55.206.5/26"]}`), "")
	f.Add(`{"cniVersion":"1.0.0","ipam":{"subnet":"fd00::/64","gateway":"fd00::1"}}`, "IP=fd00::7")
	f.Fuzz(func(t *testing.T, stdin, args string) {
		if _, err := run("ADD", stdin, args); err != nil {
			return
		}
		c, err := parse([]byte(stdin), args)
		if err != nil {
			t.Fatal(err)
		}
		var conf struct {
			IPAM struct{ Subnet, Gateway string }
		}
		if err = json.Unmarshal([]byte(stdin), &conf); err != nil {
			t.Fatal(err)
		}
		subnet, err := netip.ParsePrefix(conf.IPAM.Subnet)
		if err != nil || !subnet.Contains(c.address) || c.address.String() == conf.IPAM.Gateway {
			t.Errorf("%s of %q, gateway %q: %v", c.address, conf.IPAM.Subnet, conf.IPAM.Gateway, err)
		}
	})
}
