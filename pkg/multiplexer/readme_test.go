package multiplexer_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// The annotations that README shows work with the examples.
func TestAnnotationsOfTheREADME(t *testing.T) {
	page, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := regexp.MustCompile(`(?s)networks: (storage[^\n]*)\n.*?networks: \|\n +([^\n]*)\n`).FindSubmatch(page)
	if shown == nil {
		t.Fatal("README shows no annotations")
	}
	for i, annotation := range shown[1:] {
		f := newFixture(t)
		for _, name := range []string{"storage.conflist", "shop/telemetry.conf"} {
			example, readErr := os.ReadFile("../../examples/cni/multiplexer/net.d/" + name)
			f.must(readErr)
			f.write("conf/"+name, strings.Replace(string(example), `"type": "host-local",`, `"type": "host-local", "dataDir": "`+f.file("ipam")+`",`, 1))
		}
		out := f.networks(string(annotation)).ok("ADD", "c1")
		result, resultErr := out.Result()
		f.must(resultErr)
		if i == 1 {
			f.want(result.IPs[1].Address.String(), "192.168.50.7/24")
		}
		f.want(result.Interfaces[len(result.Interfaces)-1].Name, "metrics0")
		f.ok("DEL", "c1")
	}
}
