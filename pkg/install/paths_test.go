package install

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

func TestDetect(t *testing.T) {
	const k3s = "/var/lib/rancher/k3s/"
	hash := strings.Repeat("0123456789abcdef", 4)
	tests := map[string]struct {
		files  map[string]string
		given  Given
		want   Paths // without warnings
		warns  []string
		errHas []string
	}{
		"nothing to see": {want: Paths{ConfDir: "/etc/cni/net.d", BinDir: "/opt/cni/bin", Source: "the defaults"}},
		"nothing to see, all given": {
			given: Given{"/a/net.d/", "/a/bin", network.CRIO},
			want:  Paths{ConfDir: "/a/net.d", BinDir: "/a/bin", Runtime: network.CRIO, Source: "flags"},
		},
		"containerd, version 2": {
			files: map[string]string{"/etc/containerd/config.toml": "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = \"/home/kubernetes/bin\"\nconf_dir = \"/srv/net.d\"\n"},
			want:  Paths{ConfDir: "/srv/net.d", BinDir: "/home/kubernetes/bin", Runtime: network.Containerd, Source: "/etc/containerd/config.toml"},
		},
		"containerd, version 1": {
			files: map[string]string{"/etc/containerd/config.toml": "[plugins.cri.cni]\nconf_dir = \"/srv/net.d\"\n"},
			want:  Paths{ConfDir: "/srv/net.d", BinDir: "/opt/cni/bin", Runtime: network.Containerd, Source: "/etc/containerd/config.toml"},
		},
		"containerd, version 3, the first of its bin directories that is there": {
			files: map[string]string{
				"/etc/containerd/config.toml": "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.cni]\nbin_dirs = ['/usr/libexec/cni', '/opt/cni/bin', '/other']\nmax_conf_num = 0\n" +
					"[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.kata]\ncni_conf_dir = '/etc/cni/kata.d'\n",
				"/opt/cni/bin/bridge": "", "/other/bridge": "",
			},
			want:  Paths{ConfDir: "/etc/cni/net.d", BinDir: "/opt/cni/bin", Runtime: network.Containerd, Source: "/etc/containerd/config.toml"},
			warns: []string{"max_conf_num is 0", `"kata" get their network from /etc/cni/kata.d`},
		},
		"the bin directory that has the plugin already": {
			files: map[string]string{
				"/etc/containerd/config.toml": "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.cni]\nbin_dirs = ['/opt/cni/bin', '/other']\n",
				"/opt/cni/bin/bridge":         "", "/other/multiplexer": "",
			},
			want: Paths{ConfDir: "/etc/cni/net.d", BinDir: "/other", Runtime: network.Containerd, Source: "/etc/containerd/config.toml"},
		},
		"containerd's imports, a circle among them; the last counts": {
			files: map[string]string{
				"/etc/containerd/config.toml":   "version = 2\nimports = [\"conf.d/*.toml\", \"/etc/containerd/config.toml\"]\n[plugins.\"io.containerd.grpc.v1.cri\".cni]\nconf_dir = \"/one\"\nbin_dir = \"/bin1\"\n",
				"/etc/containerd/conf.d/a.toml": "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".cni]\nconf_dir = \"/two\"\n",
				"/etc/containerd/conf.d/b.toml": "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".cni]\nconf_dir = \"/three\"\n",
			},
			want: Paths{ConfDir: "/three", BinDir: "/bin1", Runtime: network.Containerd, Source: "/etc/containerd/config.toml"},
		},
		"containerd 2.2 without a file of its own": {
			files: map[string]string{"/etc/containerd/conf.d/a.toml": "version = 3\n[plugins.\"io.containerd.cri.v1.runtime\".cni]\nconf_dir = \"/two\"\n"},
			want:  Paths{ConfDir: "/two", BinDir: "/opt/cni/bin", Runtime: network.Containerd, Source: "/etc/containerd/config.toml"},
		},
		"Docker's containerd beside CRI-O": {
			files: map[string]string{
				"/etc/containerd/config.toml":         "disabled_plugins = [\"cri\"]\n",
				"/etc/crio/crio.conf":                 "[crio]\n[crio.network]\nnetwork_dir = \"/etc/cni/net.d/\"\nplugin_dirs = [\"/opt/cni/bin/\"]\n",
				"/etc/crio/crio.conf.d/00-first.conf": "[crio.network]\nnetwork_dir = \"/one\"\n",
				"/etc/crio/crio.conf.d/10-last.conf":  "[crio.network]\nnetwork_dir = \"/etc/kubernetes/cni/net.d\"\nplugin_dirs = [\"/var/lib/cni/bin\", \"/usr/libexec/cni\"]\ncni_default_network = \"multus-cni-network\"\n",
			},
			want:  Paths{ConfDir: "/etc/kubernetes/cni/net.d", BinDir: "/var/lib/cni/bin", Runtime: network.CRIO, Source: "/etc/crio/crio.conf"},
			warns: []string{`named "multus-cni-network"`},
		},
		"k3s": {
			files: map[string]string{
				k3s + "agent/etc/containerd/config.toml": "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.cni]\nbin_dirs = ['/var/lib/rancher/k3s/data/cni']\nconf_dir = '/var/lib/rancher/k3s/agent/etc/cni/net.d'\n",
				k3s + "data/cni/flannel":                 "",
			},
			want: Paths{ConfDir: k3s + "agent/etc/cni/net.d", BinDir: k3s + "data/cni", Runtime: network.Containerd, Source: k3s + "agent/etc/containerd/config.toml"},
		},
		"k3s before October 2024": {
			files: map[string]string{
				k3s + "agent/etc/containerd/config.toml": "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = \"" + k3s + "data/" + hash + "/bin\"\nconf_dir = \"" + k3s + "agent/etc/cni/net.d\"\n",
				k3s + "data/current/bin/flannel":         "",
			},
			want:  Paths{ConfDir: k3s + "agent/etc/cni/net.d", BinDir: k3s + "data/current/bin", Runtime: network.Containerd, Source: k3s + "agent/etc/containerd/config.toml"},
			warns: []string{"replaced when k3s is upgraded"},
		},
		"k3s by its directories alone": {
			files: map[string]string{k3s + "agent/etc/cni/net.d/10-flannel.conflist": flannel, k3s + "data/cni/flannel": ""},
			want:  Paths{ConfDir: k3s + "agent/etc/cni/net.d", BinDir: k3s + "data/cni", Runtime: network.Containerd, Source: k3s + "agent/etc/cni/net.d"},
		},
		"RKE2": {
			files: map[string]string{"/var/lib/rancher/rke2/agent/etc/containerd/config.toml": "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = \"/opt/cni/bin\"\nconf_dir = \"/etc/cni/net.d\"\n"},
			want:  Paths{ConfDir: "/etc/cni/net.d", BinDir: "/opt/cni/bin", Runtime: network.Containerd, Source: "/var/lib/rancher/rke2/agent/etc/containerd/config.toml"},
		},
		"two runtimes": {
			files:  map[string]string{"/etc/containerd/config.toml": "version = 2\n", "/etc/crio/crio.conf": ""},
			errHas: []string{"containerd (/etc/containerd/config.toml) and cri-o (/etc/crio/crio.conf)", "--runtime"},
		},
		"two runtimes, one runs": {
			files: map[string]string{"/etc/containerd/config.toml": "version = 2\n", "/etc/crio/crio.conf": "", "/run/crio/crio.sock": ""},
			want:  Paths{ConfDir: "/etc/cni/net.d", BinDir: "/opt/cni/bin", Runtime: network.CRIO, Source: "/etc/crio/crio.conf"},
		},
		"two runtimes, one given": {
			files: map[string]string{"/etc/containerd/config.toml": "version = 2\n", "/etc/crio/crio.conf": ""},
			given: Given{Runtime: network.Containerd},
			want:  Paths{ConfDir: "/etc/cni/net.d", BinDir: "/opt/cni/bin", Runtime: network.Containerd, Source: "/etc/containerd/config.toml"},
		},
		"what is given counts more": {
			files: map[string]string{"/etc/crio/crio.conf": "[crio.network]\nnetwork_dir = \"/one\"\n"},
			given: Given{BinDir: "/mine"},
			want:  Paths{ConfDir: "/one", BinDir: "/mine", Runtime: network.CRIO, Source: "/etc/crio/crio.conf"},
		},
		"a file that is no TOML": {
			files:  map[string]string{"/etc/containerd/config.toml": "version = \n"},
			errHas: []string{"/etc/containerd/config.toml", "--cni-conf-dir and --cni-bin-dir"},
		},
		"a file that is no TOML, all given": {
			files: map[string]string{"/etc/containerd/config.toml": "version = \n"},
			given: Given{ConfDir: "/a", BinDir: "/b"},
			want:  Paths{ConfDir: "/a", BinDir: "/b", Source: "flags"},
			warns: []string{"/etc/containerd/config.toml"},
		},
		"a relative directory": {
			files:  map[string]string{"/etc/containerd/config.toml": "[plugins.cri.cni]\nconf_dir = \"net.d\"\n"},
			errHas: []string{`"net.d" is no absolute path`, "--cni-conf-dir"},
		},
		"a relative flag":     {given: Given{ConfDir: "net.d"}, errHas: []string{`--cni-conf-dir "net.d"`}},
		"an unknown runtime":  {given: Given{Runtime: "docker"}, errHas: []string{`--runtime "docker"`, `"cri-o"`}},
		"keys of other types": {files: map[string]string{"/etc/containerd/config.toml": "plugins = 3\nimports = 4\n"}, want: Paths{ConfDir: "/etc/cni/net.d", BinDir: "/opt/cni/bin", Runtime: network.Containerd, Source: "/etc/containerd/config.toml"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for path, content := range test.files {
				writeFile(t, filepath.Join(root, path), content, 0o644)
			}
			got, err := Detect(root, test.given)
			if test.errHas != nil {
				if err == nil {
					t.Fatalf("no error, but %+v", got)
				}
				wantText(t, err.Error(), test.errHas...)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			wantText(t, strings.Join(got.Warnings, "\n"), test.warns...)
			if len(got.Warnings) != len(test.warns) {
				t.Errorf("warnings %q, want %d", got.Warnings, len(test.warns))
			}
			got.Warnings = nil
			if got.ConfDir != test.want.ConfDir || got.BinDir != test.want.BinDir || got.Runtime != test.want.Runtime || got.Source != test.want.Source {
				t.Errorf("got  %+v\nwant %+v", got, test.want)
			}
		})
	}
}

func TestDetectSaysWhatCannotBeRead(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "etc/containerd/config.toml"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Detect(root, Given{}); !errors.Is(err, network.Invalid) {
		t.Errorf("a directory in the file's place: %v", err)
	}
}

func TestTemporaryNamesAreReadByNobody(t *testing.T) {
	for _, path := range []string{confFile, pluginFile, confFile + asideSuffix} {
		temp := temporary(path)
		if filepath.Dir(temp) != filepath.Dir(path) {
			t.Errorf("%s is not in %s: containerd ignores what comes from elsewhere", temp, filepath.Dir(path))
		}
		if slices.Contains(network.ConfExtensions(), filepath.Ext(temp)) {
			t.Errorf("runtimes read %s", temp)
		}
	}
	if slices.Contains(network.ConfExtensions(), filepath.Ext("00-multus.conf"+asideSuffix)) {
		t.Errorf("runtimes read what is moved aside")
	}
}
