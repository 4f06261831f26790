package fixipam

import (
	"errors"
	"strings"
	"testing"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// refusal is an ADD that must fail, and what its error must say.
type refusal struct{ stdin, args, want string }

func refused(t *testing.T, kind network.Kind, cases map[string]refusal) {
	t.Helper()
	for name, c := range cases {
		out, err := run(t, "ADD", c.stdin, c.args)
		if err == nil || !errors.Is(err, kind) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %s, error %v\nwant %s", name, out, err, c.want)
		}
	}
}

func TestRefusedAddress(t *testing.T) {
	const range26 = "; want 10.55.206.1 to 10.55.206.62 without the gateway 10.55.206.1"
	value := func(address, why string) refusal {
		return refusal{article, "IP=" + address, `fixipam: IP of CNI_ARGS "` + address + `": ` + why + range26}
	}
	refused(t, network.Invalid, map[string]refusal{
		"outside":          value("10.55.206.64", "is outside ipam.subnet 10.55.206.0/26"),
		"other family":     value("fd00::1", "is outside ipam.subnet 10.55.206.0/26"),
		"gateway":          value("10.55.206.1", "is the gateway (ipam.gateway)"),
		"gateway/26":       value("10.55.206.1/26", "is the gateway (ipam.gateway)"),
		"network":          value("10.55.206.0", "is the network address of 10.55.206.0/26"),
		"broadcast":        value("10.55.206.63", "is the broadcast address of 10.55.206.0/26"),
		"prefix":           value("10.55.206.5/24", "its prefix length is not the subnet's, /26"),
		"prefix, no value": value("10.55.206.5/", "its prefix length is not the subnet's, /26"),
		"prefix, padded":   value("10.55.206.5/026", "its prefix length is not the subnet's, /26"),
		"no address":       value("ten", "is no IP address"),
		"octal":            value("10.55.206.010", "is no IP address"),
		"space":            value(" 10.55.206.5", "is no IP address"),
		"two in one":       value("10.55.206.5,10.55.206.6", "is no IP address"),
		"another equal":    value("10.55.206.5=6", "is no IP address"),
		"zone":             value("fe80::1%eth0", "has a zone"),
		"4in6":             value("::ffff:10.55.206.5", "is an IPv4 address in IPv6 form"),
		"multicast":        value("224.0.0.1", "is a multicast address"),
		"multicast 6":      value("ff02::1", "is a multicast address"),
		"unspecified":      value("0.0.0.0", "is the unspecified address"),
		"loopback":         value("127.0.0.1", "is a loopback address"),
		"IPv6 network":     {ipam(`"subnet":"fd00::/64"`), "IP=fd00::", "is the network address of fd00::/64; want fd00::1 to fd00::ffff:ffff:ffff:ffff"},
		"one address":      {ipam(`"subnet":"10.0.0.9/32"`), "IP=10.0.0.8", "want 10.0.0.9"},
		"an empty string":  {with(`"runtimeConfig":{"ips":[""]}`), "", `runtimeConfig.ips "": is no IP address`},
		"null":             {with(`"args":{"cni":{"ips":[null]}}`), "", `args.cni.ips "": is no IP address`},
	})
}

func TestRefusedRequest(t *testing.T) {
	refused(t, network.Invalid, map[string]refusal{
		"nobody asks":      {article, "IgnoreUnknown=1;K8S_POD_NAME=a;IP;IP=", `no address is asked for: write "ips": ["..."]`},
		"how to ask":       {article, "", `"capabilities": {"ips": true}`},
		"how to ask too":   {article, "", `"cni-args": {"IP": "..."}`},
		"two of runtime":   {with(`"runtimeConfig":{"ips":["10.55.206.5","fd00::5"]}`), "", "runtimeConfig.ips asks for 2 addresses (10.55.206.5, fd00::5): want exactly one"},
		"two of args":      {with(`"args":{"cni":{"ips":["10.55.206.5","10.55.206.5"]}}`), "", "args.cni.ips asks for 2"},
		"two of CNI_ARGS":  {article, "IP=10.55.206.5;IP=10.55.206.6", "IP of CNI_ARGS asks for 2"},
		"ips no array":     {with(`"runtimeConfig":{"ips":"10.55.206.5"}`), "", `key "runtimeConfig.ips" is a JSON string, want an array`},
		"IP no string":     {with(`"args":{"cni":{"IP":5}}`), "", `key "args.cni.IP" is a JSON number, want a string`},
		"args.cni is none": {with(`"args":{"cni":[]}`), "", `key "args.cni" is a JSON array, want an object`},
	})
}

func TestRefusedNetwork(t *testing.T) {
	const args = "IP=10.0.0.2"
	network26 := func(keys string) string { return ipam(`"subnet":"10.0.0.0/26",` + keys) }
	refused(t, network.Invalid, map[string]refusal{
		"no ipam":            {`{}`, args, "ipam.subnet is missing"},
		"no subnet":          {ipam(``), args, "ipam.subnet is missing"},
		"subnet no prefix":   {ipam(`"subnet":"10.0.0.0"`), args, `ipam.subnet "10.0.0.0": want ADDRESS/BITS`},
		"subnet too long":    {ipam(`"subnet":"10.0.0.0/33"`), args, `ipam.subnet "10.0.0.0/33": want`},
		"subnet 4in6":        {ipam(`"subnet":"::ffff:10.0.0.0/120"`), args, "ipam.subnet"},
		"subnet zone":        {ipam(`"subnet":"fe80::%eth0/64"`), args, "ipam.subnet"},
		"subnet multicast":   {ipam(`"subnet":"224.0.0.0/8"`), args, "want unicast addresses"},
		"subnet loopback":    {ipam(`"subnet":"127.0.0.0/8"`), args, "want unicast addresses"},
		"subnet no string":   {ipam(`"subnet":5`), args, `key "ipam.subnet" is a JSON number, want a string`},
		"gateway outside":    {network26(`"gateway":"10.0.0.64"`), args, `ipam.gateway "10.0.0.64": is outside ipam.subnet 10.0.0.0/26; want 10.0.0.1 to 10.0.0.62`},
		"gateway malformed":  {network26(`"gateway":"10.0.0.1/26"`), args, `ipam.gateway "10.0.0.1/26": is no IP address`},
		"gateway of IPv6":    {network26(`"gateway":"fd00::1"`), args, `ipam.gateway "fd00::1": is outside`},
		"gateway broadcast":  {network26(`"gateway":"10.0.0.63"`), args, `ipam.gateway "10.0.0.63": is the broadcast address`},
		"gateway network":    {network26(`"gateway":"10.0.0.0"`), args, `ipam.gateway "10.0.0.0": is the network address`},
		"routes no array":    {network26(`"routes":{}`), args, `key "ipam.routes" is a JSON object, want an array`},
		"route null":         {network26(`"routes":[null]`), args, `ipam.routes[0].dst "": want an IPv4 destination`},
		"route no object":    {network26(`"routes":[{"dst":"0.0.0.0/0"},"0.0.0.0/0"]`), args, `ipam.routes[1] "0.0.0.0/0": `},
		"route no dst":       {network26(`"routes":[{"gw":"10.0.0.1"}]`), args, `ipam.routes[0].dst "": want`},
		"route dst":          {network26(`"routes":[{"dst":"default"}]`), args, `ipam.routes[0].dst "default": want`},
		"route dst 4in6":     {network26(`"routes":[{"dst":"::ffff:10.0.0.0/120"}]`), args, `ipam.routes[0].dst`},
		"route dst of IPv6":  {network26(`"routes":[{"dst":"::/0"}]`), args, `ipam.routes[0].dst "::/0": want an IPv4 destination, as ipam.subnet 10.0.0.0/26 is`},
		"route gw":           {network26(`"routes":[{"dst":"0.0.0.0/0","gw":"me"}]`), args, `ipam.routes[0].gw "me": is no IP address; want the IPv4 address of a router`},
		"route gw of IPv6":   {network26(`"routes":[{"dst":"0.0.0.0/0","gw":"fe80::1"}]`), args, `is of another IP version than dst`},
		"route gw multicast": {network26(`"routes":[{"dst":"0.0.0.0/0","gw":"224.0.0.1"}]`), args, `is a multicast address`},
		"route mtu":          {network26(`"routes":[{"dst":"0.0.0.0/0","mtu":"1500"}]`), args, `want whole numbers for mtu`},
		"dns":                {network26(`"dns":[]`), args, `key "ipam.dns" is a JSON array, want an object`},
		"long":               {ipam(`"subnet":"` + strings.Repeat("x", 500) + `"`), args, `xxx...": want`},
	})
	refused(t, network.Malformed, map[string]refusal{
		"no JSON":    {`{`, args, "fixipam: configuration"},
		"nothing":    {``, args, "fixipam: configuration"},
		"no object":  {`[]`, args, "fixipam: configuration"},
		"no version": {strings.Replace(network26(`"x":1`), `"1.1.0"`, `1`, 1), args, "cniVersion"},
	})
	refused(t, network.Unsupported, map[string]refusal{
		"version": {strings.Replace(network26(`"x":1`), `1.1.0`, `7.0.0`, 1), args, `cniVersion "7.0.0"`},
	})
}
