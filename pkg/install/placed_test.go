package install

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// put writes files below a root.
func put(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for path, content := range files {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestFindPlaced(t *testing.T) {
	const dir = "/etc/cni/net.d/"
	mine := func(more string) string {
		return `{"cniVersion":"0.4.0","cniVersions":["1.0.0","1.1.0"],"name":"pods","plugins":[` + more + `{"type":"multiplexer","stateDir":"/state"}]}`
	}
	const rival = `{"cniVersion":"1.0.0","name":"multus","type":"multus"}`
	for name, c := range map[string]struct {
		files map[string]string
		path  string
		index int
		err   string
	}{
		"none":                         {files: map[string]string{dir + "00-multus.conf": rival}},
		"no directory":                 {},
		"ours, behind a rival":         {files: map[string]string{dir + "00-a.conf": rival, dir + ConfName: mine("")}, path: dir + ConfName},
		"ours before one by hand":      {files: map[string]string{dir + "00-a.conflist": mine(""), dir + ConfName: mine("")}, path: dir + ConfName},
		"by hand, behind the network":  {files: map[string]string{dir + "10-a.conflist": mine(`{"type":"bridge"},`)}, path: dir + "10-a.conflist", index: 1},
		"by hand, beside a broken one": {files: map[string]string{dir + "00-a.conflist": "{", dir + "10-b.conflist": mine("")}, path: dir + "10-b.conflist"},
		"ours, broken":                 {files: map[string]string{dir + ConfName: "{", dir + "10-b.conflist": mine("")}, err: ConfName + ": not valid JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := FindPlaced(put(t, c.files), strings.TrimSuffix(dir, "/"))
			switch {
			case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)), c.err == "" && err != nil:
				t.Fatalf("error %v, want %q", err, c.err)
			case c.path == "" && got != nil, c.path != "" && got == nil:
				t.Fatalf("got %+v", got)
			case got == nil:
				return
			}
			if got.Path != c.path || got.Index != c.index {
				t.Errorf("got %s, index %d", got.Path, got.Index)
			}
			// What the plugin gets is what a runtime sends: name and version are the list's.
			config, err := network.ParseConfig(got.Entry)
			if err != nil || config.Name != "pods" || config.CNIVersion != "1.1.0" || config.StateDir != "/state" {
				t.Errorf("%v, %+v", err, config)
			}
		})
	}
}

// The options of a conf are those that it was made with: it would be made the
// same again.
func TestPlacedOptions(t *testing.T) {
	const dir = "/etc/cni/net.d/"
	list, err := network.ParseList("", "", []byte(`{"cniVersion":"1.0.0","name":"pods","plugins":[{"type":"bridge","capabilities":{"bandwidth":true}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, options := range []string{
		`{}`, `{"stateDir":"/state","routing":{"strict":true}}`, `{"capabilities":{"portMappings":true}}`,
		`{"delegates":[{"cniVersion":"1.0.0","name":"pods","type":"bridge"}]}`,
	} {
		s := Settings{ConfDir: "/etc/cni/net.d", Runtime: network.Containerd, Options: json.RawMessage(options)}
		cluster := Cluster{Path: dir + "10-pods.conflist", List: list}
		if strings.Contains(options, "delegates") {
			cluster.Path = ""
		}
		want, makeErr := Conflist(cluster, s)
		if makeErr != nil {
			t.Fatal(makeErr)
		}
		placed, findErr := FindPlaced(put(t, map[string]string{dir + ConfName: string(want)}), "/etc/cni/net.d")
		if findErr != nil {
			t.Fatal(findErr)
		}
		if s.Options, err = placed.Options(); err != nil {
			t.Fatal(err)
		}
		got, againErr := Conflist(cluster, s)
		if diff := cmp.Diff(string(want), string(got)); againErr != nil || diff != "" {
			t.Errorf("%s: %v, %s", options, againErr, diff)
		}
	}
}

func TestSearchDirs(t *testing.T) {
	root := put(t, map[string]string{
		"/etc/containerd/config.toml": "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.cni]\nbin_dirs = ['/opt/cni/bin', '/other']\n",
	})
	for _, c := range []struct {
		root  string
		given Given
		want  []string
	}{
		{root, Given{}, []string{"/opt/cni/bin", "/other"}},
		{root, Given{BinDir: "/mine"}, []string{"/mine"}},
		{t.TempDir(), Given{}, []string{"/opt/cni/bin"}},
	} {
		got, err := SearchDirs(c.root, c.given)
		if diff := cmp.Diff(c.want, got); err != nil || diff != "" {
			t.Errorf("%+v: %v, %s", c.given, err, diff)
		}
	}
	if _, err := SearchDirs(root, Given{BinDir: "bin"}); err == nil {
		t.Error("a relative directory is taken")
	}
}
