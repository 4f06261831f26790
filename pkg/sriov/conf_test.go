package sriov

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// onVF is a definition tied to a VF, onPF one that names a PF; more is further keys.
func onVF(more string) string { return defined(`"deviceID":"0000:01:10.0"`, more) }
func onPF(more string) string { return defined(`"master":"ens1"`, more) }

func defined(device, more string) string {
	if more != "" {
		more = "," + more
	}
	return `{"cniVersion":"1.0.0","name":"fast","type":"sriov",` + device + more + `}`
}

// settings shows what a configuration asks for, in the keys' order.
func settings(c *Conf) string {
	var out []string
	say := func(key string, value any) { out = append(out, fmt.Sprintf("%s=%v", key, value)) }
	text := func(key, value string) {
		if value != "" {
			say(key, value)
		}
	}
	whole := func(key string, value *int) {
		if value != nil {
			say(key, *value)
		}
	}
	text("deviceID", c.DeviceID)
	text("master", c.Master)
	whole("vf", c.VF)
	if c.PFOnly {
		say("pfOnly", true)
	}
	whole("vlan", c.VLAN)
	whole("vlanQoS", c.VLANQoS)
	text("vlanProto", c.VLANProto)
	text("mac", c.MAC)
	if c.MTU != 0 {
		say("mtu", c.MTU)
	}
	text("spoofchk", c.SpoofChk)
	text("trust", c.Trust)
	text("link_state", c.LinkState)
	whole("min_tx_rate", c.MinTxRate)
	whole("max_tx_rate", c.MaxTxRate)
	if c.Unsupported != Strict {
		say("unsupported", c.Unsupported)
	}
	if c.Announce != nil {
		say("announce", *c.Announce)
	}
	text("ipam", c.IPAM.Type)
	text("logLevel", c.LogLevel)
	text("logFile", c.LogFile)
	return strings.Join(out, " ")
}

// wantSettings fails the test unless ParseConf takes the configuration as these.
func wantSettings(t *testing.T, stdin, args, want string) {
	t.Helper()
	c, err := ParseConf([]byte(stdin), args)
	if err != nil {
		t.Errorf("%s\nwith CNI_ARGS %q: %v", stdin, args, err)
		return
	}
	if diff := cmp.Diff(want, settings(c)); diff != "" {
		t.Errorf("%s\nwith CNI_ARGS %q (-want +got):\n%s", stdin, args, diff)
	}
}

// wantRefusal fails the test unless ParseConf refuses the configuration with
// an error of this kind alone, whose text has all of these.
func wantRefusal(t *testing.T, stdin, args string, kind network.Kind, says ...string) {
	t.Helper()
	_, err := ParseConf([]byte(stdin), args)
	if err == nil {
		t.Errorf("%s\nwith CNI_ARGS %q: no error, want one that says %q", stdin, args, says)
		return
	}
	for _, known := range []network.Kind{network.Invalid, network.Malformed, network.IO, network.Again} {
		if is := errors.Is(err, known); is != (known == kind) {
			t.Errorf("%s\nwith CNI_ARGS %q: is %q: %v, want kind %q: %v", stdin, args, known, is, kind, err)
		}
	}
	for _, say := range append(says, "sriov: ") {
		if !strings.Contains(err.Error(), say) {
			t.Errorf("%s\nwith CNI_ARGS %q:\n got %s\nwant %q in it", stdin, args, err, say)
		}
	}
	const most = 450
	if len(err.Error()) > most {
		t.Errorf("%d bytes of message: %s", len(err.Error()), err)
	}
}

func TestLegalValues(t *testing.T) {
	const vf, pf = "deviceID=0000:01:10.0", "master=ens1"
	for name, c := range map[string]struct{ stdin, want string }{
		"a VF and nothing else":             {onVF(""), vf},
		"a PF and nothing else":             {onPF(""), pf},
		"a VF's address in capitals":        {defined(`"deviceID":"0000:AF:1F.7"`, ""), "deviceID=0000:af:1f.7"},
		"a PCI domain of five digits":       {defined(`"deviceID":"10000:01:10.0"`, ""), "deviceID=10000:01:10.0"},
		"a PCI domain of eight digits":      {defined(`"deviceID":"00010000:01:10.0"`, ""), "deviceID=00010000:01:10.0"},
		"the PF beside the VF":              {onVF(`"master":"ens1"`), vf + " " + pf},
		"a PF's name of 15 characters":      {defined(`"master":"enp129s0f0np000"`, ""), "master=enp129s0f0np000"},
		"VF 0":                              {onPF(`"vf":0`), pf + " vf=0"},
		"the highest VF":                    {onPF(`"vf":65535`), pf + " vf=65535"},
		"the PF itself":                     {onPF(`"pfOnly":true`), pf + " pfOnly=true"},
		"not the PF itself":                 {onPF(`"pfOnly":false,"vlan":5`), pf + " vlan=5"},
		"an MTU for the PF itself":          {onPF(`"pfOnly":true,"mtu":1400`), pf + " pfOnly=true mtu=1400"},
		"no tag":                            {onVF(`"vlan":0`), vf + " vlan=0"},
		"the lowest VLAN":                   {onVF(`"vlan":1`), vf + " vlan=1"},
		"the highest VLAN":                  {onVF(`"vlan":4094`), vf + " vlan=4094"},
		"no VLAN by null":                   {onVF(`"vlan":null,"vlanQoS":null,"vlanProto":null`), vf},
		"the lowest priority":               {onVF(`"vlan":1,"vlanQoS":0`), vf + " vlan=1 vlanQoS=0"},
		"the highest priority":              {onVF(`"vlan":1,"vlanQoS":7`), vf + " vlan=1 vlanQoS=7"},
		"priority 0 without a tag":          {onVF(`"vlan":0,"vlanQoS":0`), vf + " vlan=0 vlanQoS=0"},
		"802.1q":                            {onVF(`"vlan":1,"vlanProto":"802.1q"`), vf + " vlan=1 vlanProto=802.1q"},
		"802.1q in capitals":                {onVF(`"vlan":1,"vlanProto":"802.1Q"`), vf + " vlan=1 vlanProto=802.1q"},
		"802.1q without a tag":              {onVF(`"vlan":0,"vlanProto":"802.1q"`), vf + " vlan=0 vlanProto=802.1q"},
		"802.1ad":                           {onVF(`"vlan":4094,"vlanQoS":7,"vlanProto":"802.1ad"`), vf + " vlan=4094 vlanQoS=7 vlanProto=802.1ad"},
		"802.1ad in capitals":               {onVF(`"vlan":1,"vlanProto":"802.1AD"`), vf + " vlan=1 vlanProto=802.1ad"},
		"an address":                        {onVF(`"mac":"02:00:00:00:00:01"`), vf + " mac=02:00:00:00:00:01"},
		"an address in capitals":            {onVF(`"mac":"CA:FE:C0:FF:EE:00"`), vf + " mac=ca:fe:c0:ff:ee:00"},
		"an address with dashes":            {onVF(`"mac":"02-00-00-00-00-0a"`), vf + " mac=02:00:00:00:00:0a"},
		"an address as Cisco writes it":     {onVF(`"mac":"0200.0000.000a"`), vf + " mac=02:00:00:00:00:0a"},
		"the highest address":               {onVF(`"mac":"fe:ff:ff:ff:ff:ff"`), vf + " mac=fe:ff:ff:ff:ff:ff"},
		"the lowest address":                {onVF(`"mac":"00:00:00:00:00:01"`), vf + " mac=00:00:00:00:00:01"},
		"an empty address is none":          {onVF(`"mac":""`), vf},
		"the lowest MTU":                    {onVF(`"mtu":68`), vf + " mtu=68"},
		"the highest MTU":                   {onVF(`"mtu":65535`), vf + " mtu=65535"},
		"spoofchk on, trust off":            {onVF(`"spoofchk":"on","trust":"off"`), vf + " spoofchk=on trust=off"},
		"spoofchk off, trust on":            {onVF(`"spoofchk":"off","trust":"on"`), vf + " spoofchk=off trust=on"},
		"empty words are none":              {onVF(`"spoofchk":"","trust":"","link_state":"","unsupported":""`), vf},
		"link_state auto":                   {onVF(`"link_state":"auto"`), vf + " link_state=auto"},
		"link_state enable":                 {onVF(`"link_state":"enable"`), vf + " link_state=enable"},
		"link_state disable":                {onVF(`"link_state":"disable"`), vf + " link_state=disable"},
		"no limits":                         {onVF(`"min_tx_rate":0,"max_tx_rate":0`), vf + " min_tx_rate=0 max_tx_rate=0"},
		"a lower limit alone":               {onVF(`"min_tx_rate":100`), vf + " min_tx_rate=100"},
		"an upper limit alone":              {onVF(`"max_tx_rate":100`), vf + " max_tx_rate=100"},
		"both limits are the same":          {onVF(`"min_tx_rate":100,"max_tx_rate":100`), vf + " min_tx_rate=100 max_tx_rate=100"},
		"a lower limit without an upper":    {onVF(`"min_tx_rate":100,"max_tx_rate":0`), vf + " min_tx_rate=100 max_tx_rate=0"},
		"the highest rates":                 {onVF(`"min_tx_rate":2147483647,"max_tx_rate":2147483647`), vf + " min_tx_rate=2147483647 max_tx_rate=2147483647"},
		"unsupported strict":                {onVF(`"unsupported":"strict"`), vf},
		"unsupported best-effort":           {onVF(`"unsupported":"best-effort"`), vf + " unsupported=best-effort"},
		"announce":                          {onVF(`"announce":true`), vf + " announce=true"},
		"do not announce":                   {onVF(`"announce":false`), vf + " announce=false"},
		"IPAM":                              {onVF(`"ipam":{"type":"host-local","ranges":[[{"subnet":"10.56.0.0/24"}]]}`), vf + " ipam=host-local"},
		"IPAM without a type":               {onVF(`"ipam":{}`), vf},
		"IPAM null":                         {onVF(`"ipam":null`), vf},
		"a log":                             {onVF(`"logLevel":"debug","logFile":"/var/log/sriov.log"`), vf + " logLevel=debug logFile=/var/log/sriov.log"},
		"a level that sriov-cni calls info": {onVF(`"logLevel":"blabla"`), vf + " logLevel=blabla"},
		"a key that nobody knows":           {onVF(`"color":"red","vlanTrunk":"1-5"`), vf},
		"the device plugin's address":       {defined(`"runtimeConfig":{"deviceID":"0000:01:10.7"}`, ""), "deviceID=0000:01:10.7"},
	} {
		t.Run(name, func(t *testing.T) { wantSettings(t, c.stdin, "", c.want) })
	}
}

func TestRefusedValues(t *testing.T) {
	long := strings.Repeat("x", 5000)
	for name, c := range map[string]struct {
		stdin string
		says  []string
	}{
		"no device":                      {`{"name":"fast","type":"sriov"}`, []string{`"deviceID"`, `"master"`, "k8s.v1.cni.cncf.io/resourceName"}},
		"null":                           {`null`, []string{`"deviceID"`, `"master"`}},
		"a VF's address without domain":  {defined(`"deviceID":"01:10.0"`, ""), []string{`deviceID "01:10.0"`, "0000:01:10.0"}},
		"a PCI domain of three digits":   {defined(`"deviceID":"000:01:10.0"`, ""), []string{`deviceID "000:01:10.0"`, "domain:bus:device.function"}},
		"a PCI domain of nine digits":    {defined(`"deviceID":"000010000:01:10.0"`, ""), []string{`deviceID "000010000:01:10.0"`}},
		"PCI device 20 hexadecimal":      {defined(`"deviceID":"0000:01:20.0"`, ""), []string{`deviceID "0000:01:20.0"`}},
		"PCI function 8":                 {defined(`"deviceID":"0000:01:10.8"`, ""), []string{`deviceID "0000:01:10.8"`}},
		"a PCI address with a newline":   {defined(`"deviceID":"0000:01:10.0\n"`, ""), []string{`deviceID "0000:01:10.0\n"`}},
		"a path for a PCI address":       {defined(`"deviceID":"../../0000:01:10.0"`, ""), []string{`deviceID "../../0000:01:10.0"`}},
		"a very long PCI address":        {defined(`"deviceID":"`+long+`"`, ""), []string{`deviceID "xxx`, "..."}},
		"the device plugin's is none":    {defined(`"runtimeConfig":{"deviceID":"mlx5_core.sf.4"}`, ""), []string{`deviceID "mlx5_core.sf.4"`, "PCI address"}},
		"a PF's name with a slash":       {defined(`"master":"../ens1"`, ""), []string{`master "../ens1"`, "1 to 15 characters"}},
		"a PF's name of 16 characters":   {defined(`"master":"enp129s0f0np0001"`, ""), []string{`master "enp129s0f0np0001"`, "1 to 15 characters"}},
		"a PF's name is a directory":     {defined(`"master":".."`, ""), []string{`master ".."`}},
		"VF -1":                          {onPF(`"vf":-1`), []string{"vf -1", "0 or more"}},
		"a VF beyond the last":           {onPF(`"vf":65536`), []string{"vf 65536", "index of a VF", "at most 65535"}},
		"two ways to say which VF":       {onVF(`"vf":3`), []string{"vf 3", `deviceID "0000:01:10.0"`, `"master"`}},
		"pfOnly without a PF":            {onVF(`"pfOnly":true`), []string{"pfOnly", `"master"`}},
		"pfOnly and a VF's address":      {onVF(`"master":"ens1","pfOnly":true`), []string{"pfOnly", "deviceID"}},
		"pfOnly and vf":                  {onPF(`"pfOnly":true,"vf":0`), []string{"pfOnly", "vf"}},
		"pfOnly and vlan":                {onPF(`"pfOnly":true,"vlan":0`), []string{"pfOnly", "vlan"}},
		"pfOnly and mac":                 {onPF(`"pfOnly":true,"mac":"02:00:00:00:00:01"`), []string{"pfOnly", "mac"}},
		"pfOnly and spoofchk":            {onPF(`"pfOnly":true,"spoofchk":"off"`), []string{"pfOnly", "spoofchk"}},
		"pfOnly and trust":               {onPF(`"pfOnly":true,"trust":"on"`), []string{"pfOnly", "trust"}},
		"pfOnly and link_state":          {onPF(`"pfOnly":true,"link_state":"auto"`), []string{"pfOnly", "link_state"}},
		"pfOnly and a lower limit":       {onPF(`"pfOnly":true,"min_tx_rate":0`), []string{"pfOnly", "rates"}},
		"pfOnly and an upper limit":      {onPF(`"pfOnly":true,"max_tx_rate":0`), []string{"pfOnly", "rates"}},
		"VLAN -1":                        {onVF(`"vlan":-1`), []string{"vlan -1", "0 (no tag) to 4094"}},
		"VLAN 4095":                      {onVF(`"vlan":4095`), []string{"vlan 4095", "0 (no tag) to 4094"}},
		"priority -1":                    {onVF(`"vlan":1,"vlanQoS":-1`), []string{"vlanQoS -1", "0 to 7"}},
		"priority 8":                     {onVF(`"vlan":1,"vlanQoS":8`), []string{"vlanQoS 8", "0 to 7"}},
		"priority 8 without a tag":       {onVF(`"vlan":0,"vlanQoS":8`), []string{"vlanQoS 8", "0 to 7"}},
		"a priority without vlan":        {onVF(`"vlanQoS":0`), []string{"vlanQoS 0", `set "vlan"`}},
		"a priority without a tag":       {onVF(`"vlan":0,"vlanQoS":1`), []string{"vlanQoS 1", "1 to 4094"}},
		"another protocol":               {onVF(`"vlan":1,"vlanProto":"802.1x"`), []string{`vlanProto "802.1x"`, `"802.1q"`, `"802.1ad"`}},
		"another protocol without vlan":  {onVF(`"vlanProto":"0x88a8"`), []string{`vlanProto "0x88a8"`, `"802.1q"`, `"802.1ad"`}},
		"a protocol without vlan":        {onVF(`"vlanProto":"802.1Q"`), []string{`vlanProto "802.1q"`, `set "vlan"`}},
		"802.1ad without vlan":           {onVF(`"vlanProto":"802.1ad"`), []string{`vlanProto "802.1ad"`, `set "vlan"`}},
		"802.1ad without a tag":          {onVF(`"vlan":0,"vlanProto":"802.1ad"`), []string{`vlanProto "802.1ad"`, "1 to 4094"}},
		"a very long protocol":           {onVF(`"vlan":1,"vlanProto":"` + long + `"`), []string{`vlanProto "xxx`, "..."}},
		"an address that is none":        {onVF(`"mac":"green"`), []string{`mac "green"`, "02:00:00:00:00:01"}},
		"an address of five bytes":       {onVF(`"mac":"02:00:00:00:00"`), []string{`mac "02:00:00:00:00"`, "six bytes"}},
		"an address of eight bytes":      {onVF(`"mac":"02:00:00:00:00:00:00:01"`), []string{`mac "02:00:00:00:00:00:00:01"`, "six bytes"}},
		"an address with a space":        {onVF(`"mac":" 02:00:00:00:00:01"`), []string{`mac " 02:00:00:00:00:01"`, "six bytes"}},
		"a group's address":              {onVF(`"mac":"01:00:5e:00:00:01"`), []string{`mac "01:00:5e:00:00:01"`, "group", "even"}},
		"everybody's address":            {onVF(`"mac":"ff:ff:ff:ff:ff:ff"`), []string{`mac "ff:ff:ff:ff:ff:ff"`, "group"}},
		"nobody's address":               {onVF(`"mac":"00:00:00:00:00:00"`), []string{`mac "00:00:00:00:00:00"`, "no address"}},
		"a very long address":            {onVF(`"mac":"` + long + `"`), []string{`mac "xxx`, "..."}},
		"MTU 67":                         {onVF(`"mtu":67`), []string{"mtu 67", "68 to 65535"}},
		"MTU 65536":                      {onVF(`"mtu":65536`), []string{"mtu 65536", "68 to 65535"}},
		"MTU -1":                         {onVF(`"mtu":-1`), []string{"mtu -1", "68 to 65535"}},
		"MTU 67 for the PF itself":       {onPF(`"pfOnly":true,"mtu":67`), []string{"mtu 67", "68 to 65535"}},
		"another word for spoofchk":      {onVF(`"spoofchk":"On"`), []string{`spoofchk "On"`, "on, off"}},
		"another word for trust":         {onVF(`"trust":"true"`), []string{`trust "true"`, "on, off"}},
		"another word for link_state":    {onVF(`"link_state":"up"`), []string{`link_state "up"`, "auto, enable, disable"}},
		"another word for unsupported":   {onVF(`"unsupported":"ignore"`), []string{`unsupported "ignore"`, "strict, best-effort"}},
		"a very long word":               {onVF(`"trust":"` + long + `"`), []string{`trust "xxx`, "..."}},
		"a lower limit of -1":            {onVF(`"min_tx_rate":-1`), []string{"min_tx_rate -1", "Mbps", "0 (no limit)"}},
		"an upper limit of -1":           {onVF(`"max_tx_rate":-1`), []string{"max_tx_rate -1", "Mbps", "0 (no limit)"}},
		"a lower limit beyond 31 bits":   {onVF(`"min_tx_rate":2147483648`), []string{"min_tx_rate 2147483648", "Mbps", "at most 2147483647"}},
		"an upper limit beyond 31 bits":  {onVF(`"max_tx_rate":2147483648`), []string{"max_tx_rate 2147483648", "Mbps", "at most 2147483647"}},
		"a lower limit above the upper":  {onVF(`"min_tx_rate":101,"max_tx_rate":100`), []string{"min_tx_rate 101", "max_tx_rate 100"}},
		"a log somewhere below":          {onVF(`"logFile":"sriov.log"`), []string{`logFile "sriov.log"`, "absolute path"}},
		"a very long log somewhere else": {onVF(`"logFile":"` + long + `"`), []string{`logFile "xxx`, "..."}},
	} {
		t.Run(name, func(t *testing.T) { wantRefusal(t, c.stdin, "", network.Invalid, c.says...) })
	}
}

// What other SR-IOV plugins promise by a key of theirs is not left out in silence.
func TestRefusedKeys(t *testing.T) {
	for name, c := range map[string]struct {
		keys string
		says []string
	}{
		"RDMA":                     {`"rdmaIsolation":true`, []string{`"rdmaIsolation"`, "true", `"rdma"`}},
		"ib-kubernetes":            {`"ibKubernetesEnabled":true`, []string{`"ibKubernetesEnabled"`, "ib-sriov-cni"}},
		"a partition of IB":        {`"pkey":"0x7fff"`, []string{`"pkey"`, "0x7fff", "ib-sriov-cni"}},
		"a GUID of IB":             {`"runtimeConfig":{"infinibandGUID":"11:22:33:44:55:66:77:88"}`, []string{"infinibandGUID", "11:22:33:44:55:66:77:88", "infiniband-guid"}},
		"DPDK of intel's fork":     {`"dpdk":{"kernel_driver":"ixgbevf","dpdk_driver":"igb_uio"}`, []string{`"dpdk"`, "igb_uio", "vfio-pci"}},
		"an empty DPDK":            {`"dpdk":{}`, []string{`"dpdk"`, "{}"}},
		"the PF of intel's fork":   {`"if0":"ens1"`, []string{`"if0"`, "ens1", `"master"`}},
		"the name in intel's fork": {`"if0name":"net0"`, []string{`"if0name"`, "net0", "annotation"}},
		"l2enable":                 {`"l2enable":true`, []string{`"l2enable"`, "true", `"ipam"`}},
		"a partition, in capitals": {`"PKEY":"0x7fff"`, []string{`"pkey"`, "0x7fff", "ib-sriov-cni"}},
		"RDMA, in capitals":        {`"pkey":"","RDMAISOLATION":true`, []string{`"rdmaIsolation"`, "true"}},
		"a very long one":          {`"dpdk":"` + strings.Repeat("x", 5000) + `"`, []string{`"dpdk"`, "..."}},
	} {
		t.Run(name, func(t *testing.T) { wantRefusal(t, onVF(c.keys), "", network.Invalid, c.says...) })
	}
	for _, key := range []string{"rdmaIsolation", "ibKubernetesEnabled", "pkey", "dpdk", "if0", "if0name", "l2enable"} {
		for _, nothing := range []string{"null", "false", `""`} {
			t.Run(key+" "+nothing+" asks for nothing", func(t *testing.T) {
				wantSettings(t, onVF(`"`+key+`": `+nothing+` `), "", "deviceID=0000:01:10.0")
			})
		}
	}
}

func TestWrongJSON(t *testing.T) {
	for name, c := range map[string]struct {
		stdin string
		kind  network.Kind
		says  []string
	}{
		"vlan is text":               {onVF(`"vlan":"100"`), network.Invalid, []string{`"vlan"`, "JSON string", "a whole number"}},
		"vlan is a fraction":         {onVF(`"vlan":1.5`), network.Invalid, []string{`"vlan"`, "1.5", "a whole number"}},
		"vlan has an exponent":       {onVF(`"vlan":1e2`), network.Invalid, []string{`"vlan"`, "1e2", "a whole number"}},
		"vlan beyond 64 bits":        {onVF(`"vlan":99999999999999999999`), network.Invalid, []string{`"vlan"`, "99999999999999999999"}},
		"vlan is a list":             {onVF(`"vlan":[100]`), network.Invalid, []string{`"vlan"`, "JSON array", "a whole number"}},
		"vlanQoS is a switch":        {onVF(`"vlan":1,"vlanQoS":true`), network.Invalid, []string{`"vlanQoS"`, "JSON bool", "a whole number"}},
		"vlanProto is a number":      {onVF(`"vlan":1,"vlanProto":34984`), network.Invalid, []string{`"vlanProto"`, "JSON number", "a string"}},
		"vf is text":                 {onPF(`"vf":"0"`), network.Invalid, []string{`"vf"`, "JSON string", "a whole number"}},
		"pfOnly is text":             {onPF(`"pfOnly":"true"`), network.Invalid, []string{`"pfOnly"`, "JSON string", "true or false"}},
		"announce is a number":       {onPF(`"announce":0`), network.Invalid, []string{`"announce"`, "JSON number", "true or false"}},
		"spoofchk is a switch":       {onVF(`"spoofchk":true`), network.Invalid, []string{`"spoofchk"`, "JSON bool", "a string"}},
		"trust is a switch":          {onVF(`"trust":false`), network.Invalid, []string{`"trust"`, "JSON bool", "a string"}},
		"link_state is a number":     {onVF(`"link_state":1`), network.Invalid, []string{`"link_state"`, "JSON number", "a string"}},
		"mac is an object":           {onVF(`"mac":{}`), network.Invalid, []string{`"mac"`, "JSON object", "a string"}},
		"mtu is text":                {onVF(`"mtu":"1500"`), network.Invalid, []string{`"mtu"`, "JSON string", "a whole number"}},
		"min_tx_rate is text":        {onVF(`"min_tx_rate":"1"`), network.Invalid, []string{`"min_tx_rate"`, "JSON string", "a whole number"}},
		"max_tx_rate is a fraction":  {onVF(`"max_tx_rate":0.5`), network.Invalid, []string{`"max_tx_rate"`, "0.5", "a whole number"}},
		"deviceID is a list":         {defined(`"deviceID":["0000:01:10.0"]`, ""), network.Invalid, []string{`"deviceID"`, "JSON array", "a string"}},
		"master is a number":         {defined(`"master":1`, ""), network.Invalid, []string{`"master"`, "JSON number", "a string"}},
		"unsupported is a switch":    {onVF(`"unsupported":true`), network.Invalid, []string{`"unsupported"`, "a string"}},
		"logFile is a switch":        {onVF(`"logFile":true`), network.Invalid, []string{`"logFile"`, "a string"}},
		"ipam is text":               {onVF(`"ipam":"host-local"`), network.Invalid, []string{`"ipam"`, "JSON string", "an object"}},
		"ipam's type is a number":    {onVF(`"ipam":{"type":5}`), network.Invalid, []string{`"ipam.type"`, "JSON number", "a string"}},
		"args is text":               {onVF(`"args":"VLAN=5"`), network.Invalid, []string{`"args"`, "JSON string", "an object"}},
		"args.cni is a list":         {onVF(`"args":{"cni":["VLAN"]}`), network.Invalid, []string{`"args.cni"`, "JSON array", "an object"}},
		"runtimeConfig is a list":    {onVF(`"runtimeConfig":[]`), network.Invalid, []string{`"runtimeConfig"`, "JSON array", "an object"}},
		"runtimeConfig.mac is a map": {onVF(`"runtimeConfig":{"mac":{}}`), network.Invalid, []string{`"runtimeConfig.mac"`, "JSON object", "a string"}},
		"nothing":                    {``, network.Malformed, []string{"configuration"}},
		"no JSON":                    {`vlan: 5`, network.Malformed, []string{"configuration"}},
		"JSON that breaks off":       {`{"vlan":`, network.Malformed, []string{"configuration"}},
		"more behind the JSON":       {onVF("") + "}", network.Malformed, []string{"configuration"}},
		"a list":                     {`[` + onVF("") + `]`, network.Malformed, []string{"array"}},
		"text":                       {`"sriov"`, network.Malformed, []string{"string"}},
		"a number":                   {`7`, network.Malformed, []string{"number"}},
	} {
		t.Run(name, func(t *testing.T) { wantRefusal(t, c.stdin, "", c.kind, c.says...) })
	}
}

// sriov-cni reads its keys as Go does: whatever their case.
func TestKeysInAnyCase(t *testing.T) {
	wantSettings(t, `{"Name":"fast","TYPE":"sriov","DeviceID":"0000:01:10.0","VLAN":100,"vlanqos":3,"VlanProto":"802.1q",
		"MAC":"02:00:00:00:00:01","MTU":1400,"SpoofChk":"on","TRUST":"off","Link_State":"auto","MIN_TX_RATE":1,"Max_Tx_Rate":2,
		"LogLevel":"info","LOGFILE":"/l","IPAM":{"Type":"static"},"Announce":false,"Unsupported":"best-effort"}`, "",
		"deviceID=0000:01:10.0 vlan=100 vlanQoS=3 vlanProto=802.1q mac=02:00:00:00:00:01 mtu=1400 spoofchk=on trust=off link_state=auto "+
			"min_tx_rate=1 max_tx_rate=2 unsupported=best-effort announce=false ipam=static logLevel=info logFile=/l")
	wantSettings(t, `{"Master":"ens1","VF":0}`, "", "master=ens1 vf=0")
	wantSettings(t, `{"Master":"ens1","PFonly":true}`, "", "master=ens1 pfOnly=true")
	wantRefusal(t, `{"DEVICEID":"0000:01:10.0","Vlan":4095}`, "", network.Invalid, "vlan 4095")
	wantSettings(t, `{"deviceID":"0000:01:10.0","vlan":1,"Vlan":2}`, "", "deviceID=0000:01:10.0 vlan=2")
}

// The files of others work as they are: the article about
// hustcat/sriov-cni, and what sriov-cni's own documentation shows.
func TestDefinitionsOfOthers(t *testing.T) {
	article, err := os.ReadFile("../../internal/sriovguest/testdata/article.json")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ stdin, args, want string }{
		"the article's":                        {string(article), "", "master=eth1 ipam=fixipam"},
		"the article's, with its arguments":    {string(article), "IgnoreUnknown=1;IP=10.55.206.46;VF=0;MAC=66:d8:02:77:aa:aa;VLAN=3", "master=eth1 vf=0 vlan=3 mac=66:d8:02:77:aa:aa ipam=fixipam"},
		"hustcat's, the PF itself":             {`{"name":"mynet","type":"sriov","master":"eth1","pfOnly":true,"ipam":{"type":"fixipam","subnet":"10.55.206.0/26"}}`, "", "master=eth1 pfOnly=true ipam=fixipam"},
		"sriov-cni's, a kernel's driver":       {`{"cniVersion":"0.3.1","name":"sriov-network","type":"sriov","deviceID":"0000:03:02.0","ipam":{"type":"host-local","subnet":"10.55.206.0/26","routes":[{"dst":"0.0.0.0/0"}],"gateway":"10.55.206.1"}}`, "", "deviceID=0000:03:02.0 ipam=host-local"},
		"sriov-cni's, with all settings":       {`{"cniVersion":"0.3.1","name":"sriov-advanced","type":"sriov","deviceID":"0000:03:02.0","vlan":1000,"vlanQoS":4,"vlanProto":"802.1ad","min_tx_rate":100,"max_tx_rate":200,"spoofchk":"off","trust":"on","link_state":"enable","logLevel":"debug","logFile":"/tmp/sriov.log","ipam":{"type":"host-local","subnet":"10.55.206.0/26"}}`, "", "deviceID=0000:03:02.0 vlan=1000 vlanQoS=4 vlanProto=802.1ad spoofchk=off trust=on link_state=enable min_tx_rate=100 max_tx_rate=200 ipam=host-local logLevel=debug logFile=/tmp/sriov.log"},
		"sriov-cni's, an address by arguments": {`{"cniVersion":"0.3.1","name":"sriov-mac","type":"sriov","deviceID":"0000:03:02.0"}`, "MAC=CA:FE:C0:FF:EE:00", "deviceID=0000:03:02.0 mac=ca:fe:c0:ff:ee:00"},
		"sriov-cni's, an address by a pod":     {`{"cniVersion":"0.3.1","name":"sriov-mac","type":"sriov","deviceID":"0000:03:02.0","capabilities":{"mac":true},"runtimeConfig":{"mac":"CA:FE:C0:FF:EE:00"}}`, "", "deviceID=0000:03:02.0 mac=ca:fe:c0:ff:ee:00"},
		"sriov-cni's, for DPDK":                {`{"cniVersion":"0.3.1","name":"sriov-dpdk","type":"sriov","deviceID":"0000:03:02.0","vlan":1000}`, "", "deviceID=0000:03:02.0 vlan=1000"},
		"sriov-cni's, the device plugin's VF":  {`{"type":"sriov","cniVersion":"0.3.1","name":"sriov-network","runtimeConfig":{"deviceID":"0000:03:02.0","CNIDeviceInfoFile":"/var/run/k8s.cni.cncf.io/devinfo/cni/x.json"}}`, "", "deviceID=0000:03:02.0"},
		"the operator's":                       {`{"cniVersion":"1.0.0","name":"n","type":"sriov","vlan":0,"vlanQoS":0,"logLevel":"info","ipam":{},"deviceID":"0000:03:02.0"}`, "", "deviceID=0000:03:02.0 vlan=0 vlanQoS=0 logLevel=info"},
	} {
		t.Run(name, func(t *testing.T) { wantSettings(t, c.stdin, c.args, c.want) })
	}
}

// What a configuration does not name stays as the VF has it.
func TestSettingsOverAVFsState(t *testing.T) {
	before := Admin{
		MAC: "02:00:00:00:00:99", VLAN: 7, QoS: 5, Proto: proto8021AD, SpoofChk: on, Trust: "", LinkState: linkDisable, MinTxRate: 10, MaxTxRate: 20,
	}
	for name, c := range map[string]struct {
		keys   string
		change func(*Admin)
		knobs  []Knob
	}{
		"nothing":                    {``, func(*Admin) {}, nil},
		"what the PF does not hold":  {`"mtu":1400,"announce":false`, func(*Admin) {}, nil},
		"a VLAN takes all three":     {`"vlan":100`, func(a *Admin) { a.VLAN, a.QoS, a.Proto = 100, 0, proto8021Q }, []Knob{KnobVLAN}},
		"a VLAN, QoS, protocol":      {`"vlan":100,"vlanQoS":7,"vlanProto":"802.1ad"`, func(a *Admin) { a.VLAN, a.QoS = 100, 7 }, []Knob{KnobVLAN}},
		"no tag":                     {`"vlan":0`, func(a *Admin) { a.VLAN, a.QoS, a.Proto = 0, 0, proto8021Q }, []Knob{KnobVLAN}},
		"an address":                 {`"mac":"02:00:00:00:00:01"`, func(a *Admin) { a.MAC = "02:00:00:00:00:01" }, []Knob{KnobMAC}},
		"an upper limit":             {`"max_tx_rate":0`, func(a *Admin) { a.MaxTxRate = 0 }, []Knob{KnobRate}},
		"a lower limit":              {`"min_tx_rate":0`, func(a *Admin) { a.MinTxRate = 0 }, []Knob{KnobRate}},
		"spoofchk":                   {`"spoofchk":"off"`, func(a *Admin) { a.SpoofChk = off }, []Knob{KnobSpoofChk}},
		"trust":                      {`"trust":"on"`, func(a *Admin) { a.Trust = on }, []Knob{KnobTrust}},
		"link_state":                 {`"link_state":"auto"`, func(a *Admin) { a.LinkState = linkAuto }, []Knob{KnobLinkState}},
		"two, in the order of knobs": {`"trust":"off","vlan":7`, func(a *Admin) { a.QoS, a.Proto, a.Trust = 0, proto8021Q, off }, []Knob{KnobVLAN, KnobTrust}},
	} {
		t.Run(name, func(t *testing.T) {
			conf, err := ParseConf([]byte(onVF(c.keys)), "")
			if err != nil {
				t.Fatal(err)
			}
			want := before
			c.change(&want)
			if diff := cmp.Diff(want, conf.over(before)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.knobs, conf.knobs()); diff != "" {
				t.Errorf("knobs (-want +got):\n%s", diff)
			}
			if conf.setsAdmin() != (len(c.knobs) > 0) {
				t.Errorf("sets something: %v", conf.setsAdmin())
			}
		})
	}
}

// CHECK needs the result of ADD.
func TestPreviousResult(t *testing.T) {
	for name, c := range map[string]struct {
		result, want string
		kind         network.Kind
	}{
		"none":                {``, "", network.Invalid},
		"of another version":  {`{"cniVersion":"7.0.0"}`, "", network.Malformed},
		"no result":           {`"text"`, "", network.Malformed},
		"of CNI 1.0.0":        {`{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.5/24"},{"address":"fd00::5/64"}]}`, "[10.0.0.5/24 fd00::5/64]", ""},
		"of CNI 0.2.0":        {`{"cniVersion":"0.2.0","ip4":{"ip":"10.0.0.5/24"}}`, "[10.0.0.5/24]", ""},
		"one without address": {`{"cniVersion":"1.0.0","interfaces":[{"name":"net1"}]}`, "[]", ""},
	} {
		t.Run(name, func(t *testing.T) {
			keys := ""
			if c.result != "" {
				keys = `"prevResult":` + c.result
			}
			conf, err := ParseConf([]byte(onVF(keys)), "")
			if err != nil {
				t.Fatal(err)
			}
			addresses, err := conf.previous()
			switch {
			case c.kind != "" && !errors.Is(err, c.kind):
				t.Errorf("got %v, want kind %q", err, c.kind)
			case c.kind == "" && (err != nil || fmt.Sprint(addresses) != c.want):
				t.Errorf("got %v, %v, want %s", addresses, err, c.want)
			}
		})
	}
}
