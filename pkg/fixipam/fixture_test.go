package fixipam

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// article is the configuration of the article that the project began from,
// to the byte.
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

// with adds keys to the article's configuration.
func with(keys string) string { return strings.Replace(article, "{", "{"+keys+",", 1) }

// ipam is a configuration with nothing but these keys of "ipam".
func ipam(keys string) string { return `{"cniVersion":"1.1.0","ipam":{` + keys + `}}` }

func run(t *testing.T, command, stdin, args string) (string, error) {
	t.Helper()
	out, err := Plugin{}.Run(t.Context(), network.Call{Command: command, Stdin: []byte(stdin), Args: args})
	return string(out), err
}

// normal is a JSON text with its keys in order and no space.
func normal(t *testing.T, text string) string {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
