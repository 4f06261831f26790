// Package floors keeps the architecture: which room may import which, and
// what must never be linked into the CNI plugin.
package floors

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/multiplexer-cni/multiplexer"

// floors are the rooms by height. A room imports only rooms on lower floors,
// so rooms of one floor do not import each other.
var floors = [][]string{
	{"pkg/network", "pkg/podns", "pkg/lockfile", "pkg/rootpeer"},
	{"pkg/plan", "pkg/delegate", "pkg/sriov", "pkg/fixipam", "pkg/routing", "pkg/journal", "pkg/agentapi", "pkg/k8sclient", "pkg/kubelet", "pkg/install", "pkg/multus"},
	{"pkg/multiplexer", "pkg/agent", "pkg/resource"},
	{"pkg/deviceplugin", "pkg/provision", "pkg/doctor", "pkg/explain"},
	{"cmd/multiplexer", "cmd/multiplexerd"},
}

// forbidden are import paths that the plugin must not link: each costs start
// time in every ADD of every pod.
var forbidden = map[string]string{
	"net/http":          "a CNI plugin speaks no HTTP",
	"google.golang.org": "gRPC and protobuf belong to the agent",
	"k8s.io":            "the plugin has no Kubernetes client",
	"sigs.k8s.io":       "the plugin reads JSON only",
	"go.opentelemetry":  "containernetworking/cni above v1.3.0 links it through net/http",
}

type pkg struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

func list(t *testing.T, pattern ...string) []pkg {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Imports,Deps"}, pattern...)...)
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var pkgs []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err = dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}

func floorOf(path string) int {
	room := strings.TrimPrefix(path, module+"/")
	return slices.IndexFunc(floors, func(rooms []string) bool { return slices.Contains(rooms, room) })
}

func TestRoomsImportLowerFloorsOnly(t *testing.T) {
	seen := 0
	for _, p := range list(t, "./pkg/...", "./cmd/...") {
		floor := floorOf(p.ImportPath)
		if floor < 0 {
			t.Errorf("%s is on no floor: add it to this test and to .golangci.yaml", p.ImportPath)
			continue
		}
		seen++
		for _, imported := range p.Imports {
			if !strings.HasPrefix(imported, module) {
				continue
			}
			if on := floorOf(imported); on < 0 || on >= floor {
				t.Errorf("%s (floor %d) imports %s (floor %d)", p.ImportPath, floor, imported, on)
			}
		}
	}
	if want := len(slices.Concat(floors...)); seen != want {
		t.Errorf("%d rooms found, %d are listed", seen, want)
	}
}

func TestPluginStaysSmall(t *testing.T) {
	plugin := list(t, "./cmd/multiplexer")[0]
	if !slices.Contains(plugin.Deps, "github.com/containernetworking/cni/libcni") {
		t.Fatal("the dependencies are not listed")
	}
	for _, dep := range plugin.Deps {
		for path, reason := range forbidden {
			if dep == path || strings.HasPrefix(dep, path+"/") || strings.HasPrefix(dep, path+".") {
				t.Errorf("the plugin links %s: %s", dep, reason)
			}
		}
	}
}
