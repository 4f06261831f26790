package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/multiplexer-cni/multiplexer/internal/kubelettest"
	"github.com/multiplexer-cni/multiplexer/internal/sriovtest/cards"
	"github.com/multiplexer-cni/multiplexer/pkg/doctor"
	"github.com/multiplexer-cni/multiplexer/pkg/provision"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// doctorOn runs the command on a node that is empty but for its cards, its
// device plugin's file and its kubelet.
type doctorOn struct {
	*testing.T
	tree                *cards.Tree
	kubelet             *kubelettest.Kubelet
	root, config, state string
	defaults            bool // kubelet's socket and the device plugin's file are where they are without flags
}

func newDoctorOn(t *testing.T, config string) *doctorOn {
	t.Helper()
	dir, err := os.MkdirTemp("", "mx")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	d := &doctorOn{T: t, tree: cards.Temp(t), root: dir, config: filepath.Join(dir, "devices.json"), state: filepath.Join(dir, "state")}
	d.kubelet = kubelettest.Start(t, dir)
	if err = os.MkdirAll(d.state, 0o700); err != nil {
		t.Fatal(err)
	}
	if config != "" {
		if err = os.WriteFile(d.config, []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

func (d *doctorOn) run(more ...string) (string, error) {
	d.Helper()
	var out bytes.Buffer
	cmd := command()
	cmd.SetOut(&out)
	cmd.SetErr(&bytes.Buffer{})
	args := []string{"doctor", "--host-root", d.root, "--state-dir", "/state", "--sysfs", d.tree.Dir(), "--metrics-address", "", "-o", "json"}
	if !d.defaults { // paths of the node
		args = append(args, "--device-config", "/devices.json", "--pod-resources-socket", strings.TrimPrefix(d.kubelet.Socket(), d.root))
	}
	cmd.SetArgs(append(args, more...))
	err := cmd.Execute()
	return out.String(), err
}

// check returns the rows of one check.
func (d *doctorOn) check(name string) []doctor.Finding {
	d.Helper()
	out, err := d.run()
	if !errors.Is(err, errUnwell) { // the node has no cluster network
		d.Fatal(err)
	}
	var report doctor.Report
	if err = json.Unmarshal([]byte(out), &report); err != nil {
		d.Fatal(err, out)
	}
	var rows []doctor.Finding
	for _, row := range report.Rows {
		if row.Check == name {
			rows = append(rows, row.Finding)
		}
	}
	return rows
}

const fast = `{"resourceList": [{"resourceName": "fast", "selectors": [{"drivers": ["iavf"]}]}]}`

func TestDoctorOfTheDevicePlugin(t *testing.T) {
	for _, c := range []struct {
		name, config string
		make         func(d *doctorOn, vfs []string)
		state        doctor.State
		words        string
	}{
		{"none", "", nil, doctor.NA, "no devices are offered"},
		{"no JSON", "{", nil, doctor.Fail, "is no JSON"},
		{"a problem", twoResources, nil, doctor.Warn, `selectors.driver: is no key here: is "drivers" meant?`},
		{"not registered", fast, nil, doctor.Fail, "kubelet does not have intel.com/fast"},
		{"nothing selected", strings.ReplaceAll(fast, "iavf", "mlx5_core"), nil, doctor.Warn, "selects nothing that could be offered"},
		{"no resources", `{"resourceList": []}`, nil, doctor.Warn, "is empty: no device is offered"},
		{"all withheld", fast, func(d *doctorOn, _ []string) {
			d.setup(provision.PFStatus{State: provision.Working, Withheld: true})
		}, doctor.Warn, "no device of this node is in a resource"},
		{"unhealthy", fast, func(d *doctorOn, _ []string) {
			gone := sriov.Offer{PCI: "0000:17:0a.0", PF: "0000:17:00.0", Resource: "intel.com/fast", Driver: "iavf"}
			if err := sriov.NewClaims(d.state, "").SetOffers([]sriov.Offer{gone}); err != nil {
				d.Fatal(err)
			}
		}, doctor.Warn, "0000:17:0a.0 of intel.com/fast is Unhealthy: "},
		{"registered", fast, func(d *doctorOn, vfs []string) {
			d.kubelet.SetAdvertised(kubelettest.Device{Resource: "intel.com/fast", ID: vfs[0]})
		}, doctor.OK, "intel.com/fast"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDoctorOn(t, c.config)
			pf := d.tree.Add(cards.Card{Model: cards.X710, PCI: "0000:17:00.0", Name: "ens1f0", VFs: 2})
			if c.make != nil {
				c.make(d, d.tree.VFs(pf))
			}
			d.found("device plugin", c.state, c.words)
		})
	}
}

func (d *doctorOn) found(check string, state doctor.State, words string) {
	d.Helper()
	rows := d.check(check)
	for _, f := range rows {
		if f.State == state && strings.Contains(f.What, words) && (f.Remedy != "" || state == doctor.OK || state == doctor.NA) {
			return
		}
	}
	d.Errorf("%s: want %s %q, got %+v", check, state, words, rows)
}

// setup is what the agent wrote down of the PF.
func (d *doctorOn) setup(s provision.PFStatus) {
	d.Helper()
	s.Name, s.PCI = "ens1f0", "0000:17:00.0"
	raw, err := json.Marshal([]provision.PFStatus{s})
	if err == nil {
		err = os.WriteFile(filepath.Join(d.state, "provision.json"), raw, 0o600)
	}
	if err != nil {
		d.Fatal(err)
	}
}

func TestDoctorOfPFSetup(t *testing.T) {
	d := newDoctorOn(t, "")
	d.found("PF setup", doctor.NA, "sets up no PFs")
	for _, c := range []struct {
		status provision.PFStatus
		state  doctor.State
		words  string
	}{
		{provision.PFStatus{State: provision.Done}, doctor.OK, "1 PFs"},
		{provision.PFStatus{State: provision.Done, Waiting: map[string]string{"0000:17:02.0": "pod shop/web has it"}}, doctor.Warn, "VF 0000:17:02.0 pod shop/web has it"},
		{provision.PFStatus{State: provision.Failed, Reason: "no such driver"}, doctor.Fail, "PF ens1f0 (0000:17:00.0): failed: no such driver"},
		{provision.PFStatus{State: provision.Absent}, doctor.Warn, "absent"},
	} {
		d.setup(c.status)
		d.found("PF setup", c.state, c.words)
	}
	if err := os.WriteFile(filepath.Join(d.state, "provision.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.found("PF setup", doctor.Warn, "provision.json")
}

func TestDoctorFlags(t *testing.T) {
	d := newDoctorOn(t, "")
	for flag, want := range map[string]string{
		"-o=xml": `--output "xml": want one of table, json`, "--host-root=x": `--host-root "x": want an absolute path`,
		"--cni-conf-dir=x": `--cni-conf-dir "x"`, "--kubeconfig=/none": "--kubeconfig /none",
	} {
		if _, err := d.run(flag); err == nil || errors.Is(err, errUnwell) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", flag, err)
		}
	}
	out, err := d.run("-o", "table")
	if !errors.Is(err, errUnwell) || !strings.HasPrefix(out, "CHECK") || !strings.Contains(out, "fail") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestWrapped(t *testing.T) {
	var out bytes.Buffer
	rows := [][]string{{"A", "TEXT", "MORE"}, {"1", "one two three four", "/a/long/path more"}, {"2", "", "x"}}
	if err := trimmed(&out, wrapped(rows, 0, 9, 6)); err != nil {
		t.Fatal(err)
	}
	const want = `A  TEXT     MORE
1  one two  /a/long/path
   three    more
   four
2           x
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

// In a pod without a service account's token, the rest is looked at.
func TestDoctorWithoutAToken(t *testing.T) {
	d := newDoctorOn(t, "")
	d.found("rights", doctor.NA, "name a kubeconfig file with --kubeconfig")
	t.Setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
	t.Setenv("KUBERNETES_SERVICE_PORT", "1")
	d.found("rights", doctor.NA, "the API server is not asked: open /var/run/secrets/kubernetes.io")
}
