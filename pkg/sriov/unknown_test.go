package sriov

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A misspelt key is found; what CNI, the meta-plugin, sriov-cni and comments
// have is not, in any case.
func TestUnknownKeys(t *testing.T) {
	conf := `{"cniVersion":"1.0.0","name":"a","type":"sriov","vlna":10,"VLAN":3,"spoofChk":"on","maxTxRate":1,"capabilities":{},
		"dns":{},"prevResult":{},"runtimeConfig":{},"args":{},"ipam":{},"Master":"p","VFID":1,"OrigVfState":{},"rdmaIsolation":false,
		"_comment":"x","example.com/note":1}`
	if diff := cmp.Diff([]string{"maxTxRate", "vlna"}, unknown([]byte(conf))); diff != "" {
		t.Error(diff)
	}
}

// An "ipam" that names no plugin is no wish for none.
func TestIPAMWithoutType(t *testing.T) {
	for conf, refused := range map[string]bool{
		`"ipam":{"typ":"host-local"}`: true, `"ipam":{}`: false, `"ipam":{"type":""}`: false, `"ipam":{"Type":"static"}`: false, `"ipam":null`: false,
	} {
		if _, err := ParseConf([]byte(`{"type":"sriov","master":"p",`+conf+`}`), ""); (err != nil) != refused {
			t.Errorf("%s: %v", conf, err)
		}
	}
}
