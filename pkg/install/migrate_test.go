package install

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

func TestMigrate(t *testing.T) {
	tests := map[string]struct {
		want  string
		warns []string // one for each warning, in order
	}{
		"thin.conf": {
			want: `{"binDir":"/opt/multus/bin","capabilities":{"portMappings":true},"confDir":"/etc/cni/multus/net.d","globalNamespaces":"shared,infra",
				"logFile":"/var/log/multus.log","logLevel":"verbose","logToStderr":false,"namespaceIsolation":true,
				"readinessindicatorfile":"/run/flannel/subnet.env","routing":{"mode":"plain"}}`,
			warns: []string{`"routing" {"mode":"plain"} is added`, `"kubeconfig" is left out`, `"delegates[0]" (network "cbr0") is left out`},
		},
		"thin.conflist": {
			want: `{"clusterNetwork":"/etc/cni/net.d/99-weave.conf","cniDir":"/srv/multus","confDir":"/etc/cni/site.d","defaultNetworks":["metrics","logs"],"multusNamespace":"net-admin",
				"namespaceIsolation":false,"routing":{"mode":"plain"},"systemNamespaces":["kube-system","admin"]}`,
			warns: []string{`"namespaceIsolation" false is added`, `"routing" {"mode":"plain"} is added`, `"Note1" is no key of Multus`, `"auxiliaryCNIChainName" is left out`, `"logOptions" is left out`, `"retryDeleteOnError" is left out`, `"delegates" is left out, as Multus does`},
		},
		"thick-daemon.json": {
			want: `{"confDir":"/etc/cni/multus/net.d","logLevel":"verbose","logToStderr":true,"namespaceIsolation":false,
				"readinessindicatorfile":"/run/flannel/subnet.env","routing":{"mode":"plain"}}`,
			warns: []string{`"namespaceIsolation" false is added`, `"routing" {"mode":"plain"} is added`, `"chrootDir"`, `"cniDir" /hostroot/var/lib/cni/multus is inside Multus's container; /var/lib/cni/multus`, `"connectionLimit"`, `"metricsPort" is left out: --metrics-address of multiplexerd run`, `"multusConfigFile"`, `"readinessindicatorfile" /host/run/flannel`, `"socketDir"`},
		},
		"thick-shim.conf": {
			want: `{"capabilities":{"bandwidth":true,"portMappings":true},"clusterNetwork":"/etc/cni/net.d/10-flannel.conflist","confDir":"/etc/cni/multus/net.d",
				"logLevel":"verbose","logToStderr":true,"namespaceIsolation":false,"routing":{"mode":"plain"}}`,
			warns: []string{`"namespaceIsolation" false is added`, `"routing" {"mode":"plain"} is added`, `"daemonSocketDir"`, `/etc/cni/net.d/10-flannel.conflist is taken for the node's path`},
		},
		"openshift-daemon.json": {
			want: `{"binDir":"/var/lib/cni/bin","clusterNetwork":"/run/multus/cni/net.d","confDir":"/etc/cni/multus/net.d","globalNamespaces":"default,openshift-multus",
				"logLevel":"verbose","logToStderr":true,"namespaceIsolation":true,"readinessindicatorfile":"/run/multus/cni/net.d/10-ovn-kubernetes.conf","routing":{"mode":"plain"}}`,
			warns: []string{`"routing" {"mode":"plain"} is added`, `"auxiliaryCNIChainName"`, `"chrootDir"`, `"daemonSocketDir"`, `"multusConfigFile"`, `"perNodeCertificate"`, `10-ovn-kubernetes.conf is inside Multus's container`, `"socketDir"`, `/run/multus/cni/net.d is taken for the node's path`},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			raw, err := os.ReadFile(filepath.Join("testdata", "multus", name))
			if err != nil {
				t.Fatal(err)
			}
			options, warnings, err := Migrate(raw, name)
			if err != nil {
				t.Fatal(err)
			}
			jsonEqual(t, string(options), test.want)
			if len(warnings) != len(test.warns) {
				t.Fatalf("%d warnings, want %d: %q", len(warnings), len(test.warns), warnings)
			}
			for i, w := range warnings {
				wantText(t, w, name+": ", test.warns[i])
			}
			// The outcome makes a conf, and the plugin takes it.
			conf, err := Conflist(clusterOf(t, "/etc/cni/net.d/10-flannel.conflist", flannel), Settings{ConfDir: "/etc/cni/net.d", Options: options})
			if err != nil {
				t.Fatal(err)
			}
			var list struct{ Plugins []json.RawMessage }
			if err = json.Unmarshal(conf, &list); err != nil {
				t.Fatal(err)
			}
			config, err := network.ParseConfig(list.Plugins[0])
			if err != nil || config.Routing.Mode != network.RoutingPlain {
				t.Errorf("%v: %s", err, conf)
			}
		})
	}
}

// What install would refuse is said at once: of names it knows those of the
// runtime's directory alone.
func TestMigrateOfAName(t *testing.T) {
	for ref, want := range map[string]string{
		"kube-system/calico-nad": `"clusterNetwork" kube-system/calico-nad is a NetworkAttachmentDefinition's name, which install refuses`,
		"calico":                 `"clusterNetwork" calico is a name: install knows it if a file of the runtime's directory has it`,
	} {
		options, warnings, err := Migrate([]byte(`{"type":"multus","clusterNetwork":"`+ref+`"}`), "m")
		if err != nil || !strings.Contains(string(options), ref) {
			t.Errorf("%v: %s", err, options)
		}
		wantText(t, strings.Join(warnings, "\n"), want)
	}
}

func TestMigrateRefuses(t *testing.T) {
	tests := map[string]struct{ conf, errHas string }{
		"no JSON":                {`{`, "want a Multus configuration"},
		"another plugin":         {`{"type":"bridge"}`, `type is "bridge"`},
		"no type":                {`{"name":"x"}`, "type is missing"},
		"a list without Multus":  {`{"plugins":[{"type":"bridge"}]}`, "none of its plugins is multus"},
		"a list of another kind": {`{"plugins":{}}`, "plugins"},
		"more delegates":         {`{"type":"multus","delegates":[{"name":"a","type":"bridge"},{"name":"b","type":"macvlan"}]}`, `"delegates[1]" (network "b") would be every pod's: take it out of delegates in a copy of this file, write it to /etc/cni/multus/net.d/b.conflist or make a NetworkAttachmentDefinition of it, and put "b" into defaultNetworks of the copy; then run migrate on the copy`},
		"one without a name":     {`{"type":"multus","delegates":[{"name":"a","type":"bridge"},{"type":"macvlan"}]}`, `"delegates[1]" (no name, type macvlan) would be every pod's: take it out of delegates in a copy of this file, write it to /etc/cni/multus/net.d/NAME.conflist`},
		"delegates of a kind":    {`{"type":"multus","delegates":3}`, "delegates"},
		"a delegate's version":   {`{"type":"multus","delegates":[{"cniVersion":"9.0.0","type":"bridge"}]}`, "cniVersion"},
		"a wrong value":          {`{"type":"multus","logLevel":"loud"}`, `logLevel "loud"`},
		"a relative path":        {`{"type":"multus","logFile":"multus.log"}`, "absolute path"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			options, _, err := Migrate([]byte(test.conf), "00-multus.conf")
			if err == nil {
				t.Fatalf("no error, but %s", options)
			}
			wantText(t, err.Error(), test.errHas)
		})
	}
}

// Every key that docs/multus.md says has no effect is known here, and every
// key that is the same is honoured.
func TestMigrateKnowsTheKeysOfTheTable(t *testing.T) {
	raw, err := os.ReadFile("../../docs/multus.md")
	if err != nil {
		t.Fatal(err)
	}
	known := strings.Join(append(append(append(sameInBoth(), pathsInBoth()...), elsewhere()...), keysOf(multusOnly())...), " ") + " "
	rows := 0
	for line := range strings.Lines(string(raw)) {
		if !strings.HasSuffix(strings.TrimSpace(line), "| the same |") && !strings.Contains(line, "| accepted without effect") {
			continue
		}
		rows++
		cell, _, _ := strings.Cut(strings.TrimPrefix(line, "| "), " |")
		for field := range strings.SplitSeq(cell, ", ") {
			if key := strings.Trim(field, "`"); !strings.Contains(known, key+" ") {
				t.Errorf("docs/multus.md names %q, which migrate does not know", key)
			}
		}
	}
	if rows < 2 {
		t.Errorf("%d rows of docs/multus.md were read", rows)
	}
}

func keysOf(m map[string]string) []string {
	var keys []string
	for key := range m {
		keys = append(keys, key)
	}
	return keys
}
