package fixipam

import (
	"testing"
)

func TestVersions(t *testing.T) {
	const (
		three = `"ips":[{"version":"4","address":"10.55.206.46/26","gateway":"10.55.206.1"}],"routes":[{"dst":"0.0.0.0/0"}],"dns":{}`
		one   = `"ips":[{"address":"10.55.206.46/26","gateway":"10.55.206.1"}],"routes":[{"dst":"0.0.0.0/0"}]`
		old   = `"ip4":{"ip":"10.55.206.46/26","gateway":"10.55.206.1","routes":[{"dst":"0.0.0.0/0"}]},"dns":{}`
	)
	for version, want := range map[string]string{
		"": `"cniVersion":"0.1.0",` + old, "0.2.0": `"cniVersion":"0.2.0",` + old,
		"0.3.1": `"cniVersion":"0.3.1",` + three, "0.4.0": `"cniVersion":"0.4.0",` + three,
		"1.0.0": `"cniVersion":"1.0.0",` + one, "1.1.0": `"cniVersion":"1.1.0",` + one,
	} {
		stdin := article
		if version != "" {
			stdin = with(`"cniVersion":"` + version + `"`)
		}
		got, err := run(t, "ADD", stdin, "IgnoreUnknown=1;K8S_POD_NAME=a;IP=10.55.206.46")
		if err != nil {
			t.Errorf("%q: %v", version, err)
			continue
		}
		if got = normal(t, got); got != normal(t, "{"+want+"}") {
			t.Errorf("%q:\n got %s\nwant {%s}", version, got, want)
		}
	}
}

// Who asks, and who is heard first.
func TestAsked(t *testing.T) {
	for name, c := range map[string]struct{ keys, args, want string }{
		"runtimeConfig":        {`"runtimeConfig":{"ips":["10.55.206.5/26"]},"args":{"cni":{"ips":["10.55.206.6"],"IP":"10.55.206.7"}}`, "IP=10.55.206.8", "10.55.206.5/26"},
		"args.cni.ips":         {`"runtimeConfig":{"ips":[]},"args":{"cni":{"ips":["10.55.206.6"],"IP":"10.55.206.7"}}`, "IP=10.55.206.8", "10.55.206.6/26"},
		"args.cni.IP":          {`"args":{"cni":{"IP":"10.55.206.7","VF":3}}`, "IP=10.55.206.8", "10.55.206.7/26"},
		"CNI_ARGS":             {`"args":{"cni":{"IP":""}},"runtimeConfig":null`, "IP=10.55.206.8/26", "10.55.206.8/26"},
		"CNI_ARGS, one is not": {`"args":null`, "IP=;x;IP=10.55.206.8;", "10.55.206.8/26"},
		"the first":            {`"args":{}`, "IP=10.55.206.2", "10.55.206.2/26"},
		"the last":             {`"args":{}`, "IP=10.55.206.62", "10.55.206.62/26"},
	} {
		got, err := run(t, "ADD", with(`"cniVersion":"1.1.0",`+c.keys), c.args)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want := `{"cniVersion":"1.1.0","ips":[{"address":"` + c.want + `","gateway":"10.55.206.1"}],"routes":[{"dst":"0.0.0.0/0"}]}`
		if got != want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want)
		}
	}
}

func TestNetworks(t *testing.T) {
	for name, c := range map[string]struct{ ipam, ip, want string }{
		"IPv6": {`"subnet":"fd00:55::/64","gateway":"fd00:55::1","routes":[{"dst":"::/0","gw":"fe80::1"}]`, "fd00:55::7",
			`"ips":[{"address":"fd00:55::7/64","gateway":"fd00:55::1"}],"routes":[{"dst":"::/0","gw":"fe80::1"}]`},
		"IPv6 has no broadcast": {`"subnet":"fd00:55::/120"`, "fd00:55::ff/120", `"ips":[{"address":"fd00:55::ff/120"}]`},
		"RFC 3021":              {`"subnet":"10.0.0.0/31","gateway":"10.0.0.1"`, "10.0.0.0", `"ips":[{"address":"10.0.0.0/31","gateway":"10.0.0.1"}]`},
		"RFC 6164":              {`"subnet":"fd00::/127","gateway":"fd00::1"`, "fd00::", `"ips":[{"address":"fd00::/127","gateway":"fd00::1"}]`},
		"one address":           {`"subnet":"10.0.0.9/32"`, "10.0.0.9", `"ips":[{"address":"10.0.0.9/32"}]`},
		"a host's bits":         {`"subnet":"10.0.0.9/24"`, "10.0.0.7", `"ips":[{"address":"10.0.0.7/24"}]`},
		"all":                   {`"subnet":"0.0.0.0/0"`, "10.0.0.7", `"ips":[{"address":"10.0.0.7/0"}]`},
		"routes as written": {`"subnet":"10.0.0.0/24","routes":[{"dst":"10.1.2.3/8","gw":"10.0.0.9","mtu":1400,"advmss":1300,"priority":5,"table":7,"scope":0},{"dst":"10.9.0.0/16"}]`, "10.0.0.7",
			`"ips":[{"address":"10.0.0.7/24"}],"routes":[{"dst":"10.1.2.3/8","gw":"10.0.0.9","mtu":1400,"advmss":1300,"priority":5,"table":7,"scope":0},{"dst":"10.9.0.0/16"}]`},
		"dns": {`"subnet":"10.0.0.0/24","dns":{"nameservers":["10.0.0.1"],"domain":"d","search":["s"],"options":["o"]}`, "10.0.0.7",
			`"ips":[{"address":"10.0.0.7/24"}],"dns":{"nameservers":["10.0.0.1"],"domain":"d","search":["s"],"options":["o"]}`},
	} {
		got, err := run(t, "ADD", ipam(c.ipam), "IP="+c.ip)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got = normal(t, got); got != normal(t, `{"cniVersion":"1.1.0",`+c.want+`}`) {
			t.Errorf("%s:\n got %s\nwant %s", name, got, c.want)
		}
	}
}

// What the pod's annotation, the configuration and CNI_ARGS leave out must
// not come from where this process stands.
func TestEnvironmentIsNotRead(t *testing.T) {
	t.Setenv("CNI_ARGS", "IP=10.55.206.46")
	t.Setenv("CNI_COMMAND", "DEL")
	if out, err := run(t, "ADD", article, ""); err == nil {
		t.Errorf("an address from the environment: %s", out)
	}
}
