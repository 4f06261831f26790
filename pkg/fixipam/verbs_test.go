package fixipam

import (
	"errors"
	"testing"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// DEL must succeed whatever became of the configuration.
func TestNothingIsKept(t *testing.T) {
	for _, verb := range []string{"DEL", "GC", "STATUS"} {
		for _, stdin := range []string{article, `{}`, `nonsense`, ``} {
			if out, err := run(t, verb, stdin, ""); err != nil || out != "" {
				t.Errorf("%s of %q: %q, %v", verb, stdin, out, err)
			}
		}
	}
	if _, err := run(t, "VERSION", article, ""); !errors.Is(err, network.Environment) {
		t.Errorf("an unknown verb: %v", err)
	}
}

func TestCheck(t *testing.T) {
	for _, version := range []string{"0.1.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		key := `"cniVersion":"` + version + `"`
		result, err := run(t, "ADD", with(key), "IP=10.55.206.46")
		if err != nil {
			t.Fatal(err)
		}
		stdin := with(key + `,"prevResult":` + result)
		if out, checkErr := run(t, "CHECK", stdin, "IP=10.55.206.46"); checkErr != nil || out != "" {
			t.Errorf("%s: %q, %v", version, out, checkErr)
		}
		if _, err = run(t, "CHECK", stdin, "IP=10.55.206.47"); !errors.Is(err, network.Missing) {
			t.Errorf("%s: another address: %v", version, err)
		}
	}
}

func TestCheckRefused(t *testing.T) {
	for name, c := range map[string]struct {
		previous string
		want     network.Kind
	}{
		"none":           {`"x":1`, network.Invalid},
		"null":           {`"prevResult":null`, network.Invalid},
		"no object":      {`"prevResult":[]`, network.Malformed},
		"no addresses":   {`"prevResult":{}`, network.Missing},
		"null addresses": {`"prevResult":{"cniVersion":"0.4.0","ips":[null,{}],"ip4":null}`, network.Missing},
		"no address":     {`"prevResult":{"ips":[{"address":"ten"}]}`, network.Missing},
		"other prefix":   {`"prevResult":{"ips":[{"address":"10.55.206.46/24"}]}`, network.Missing},
	} {
		if _, err := run(t, "CHECK", with(c.previous), "IP=10.55.206.46"); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	if _, err := run(t, "CHECK", `{`, ""); !errors.Is(err, network.Malformed) {
		t.Errorf("no JSON: %v", err)
	}
	if _, err := run(t, "CHECK", article, ""); !errors.Is(err, network.Invalid) {
		t.Errorf("nobody asks: %v", err)
	}
}
