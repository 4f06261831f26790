package deviceplugin

import (
	"errors"
	"io/fs"
	"strconv"
	"strings"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/resource"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// Preview is what the device plugin of a node offers, and what not, as seen by
// a process that is not the device plugin.
type Preview struct {
	Devices  []Row    `json:"devices"`
	Problems []string `json:"problems"` // of the configuration

	PFs []resource.PF `json:"-"` // that the configuration wants set up
}

// Row is a network function of the node.
type Row struct {
	PCI    string `json:"pci"`
	PF     string `json:"pf"` // name of its network device, else the PCI address
	VF     int    `json:"vf"` // index; -1 = no VF
	Driver string `json:"driver,omitempty"`
	NUMA   int    `json:"numa"` // -1 = the machine has no nodes

	Resource string `json:"resource,omitempty"` // that offers it; "" = none does
	Healthy  bool   `json:"healthy"`
	Pod      string `json:"pod,omitempty"`    // namespace/name of the pod that has it
	Reason   string `json:"reason,omitempty"` // why it is Unhealthy, or selected and not offered

	// Refused says why resources do not select it.
	Refused []Refused `json:"refused,omitempty"`
}

// Refused is a resource's reason not to select a function.
type Refused struct {
	Resource string   `json:"resource,omitempty"` // "" = none may
	Why      []string `json:"why"`                // one for each selector, or one for all
}

// Preview looks at the node once, and changes nothing.
func (m *Manager) Preview() (*Preview, error) {
	raw, err := readConfig(m.ConfigPath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, network.Invalid.Errorf("%w: no devices are offered; write that file (docs/device-plugin.md), or name another with --device-config", err)
	}
	if err != nil {
		return nil, network.IO.Errorf("%w", err)
	}
	config, problems, err := resource.Parse(m.ConfigPath, raw, m.Prefix)
	if err != nil {
		return nil, err
	}
	listed, err := m.Claims.Offers()
	if err != nil {
		return nil, err
	}
	m.items = map[string]*item{}
	for _, o := range listed {
		m.items[o.PCI] = &item{Offer: o}
	}
	m.config.Config = config
	s, err := m.see()
	if err != nil {
		return nil, err
	}
	preview := &Preview{Devices: []Row{}, Problems: []string{}, PFs: config.PFs}
	for _, p := range append(problems, s.warnings...) {
		preview.Problems = append(preview.Problems, p.Error())
	}
	for _, c := range collisions(config) {
		preview.Problems = append(preview.Problems, c.Error())
	}
	preview.rows(s, s.decide(m.items))
	return preview, nil
}

func (p *Preview) rows(s *sight, o *outcome) {
	var functions []sriov.Function
	for _, pci := range sortedKeys(s.functions) {
		functions = append(functions, *s.functions[pci])
	}
	refused := map[string][]Refused{}
	for _, r := range s.config.Explain(functions) {
		name := ""
		if r.Resource != nil {
			name = r.Resource.Name
		}
		refused[r.Function.PCI] = append(refused[r.Function.PCI], Refused{Resource: name, Why: r.Why})
	}
	for _, fresh := range o.fresh { // what the device plugin is about to offer
		for _, i := range fresh {
			o.items[i.PCI] = i
		}
	}
	for i := range functions {
		row := rowOf(&functions[i])
		row.Pod, row.Reason, row.Refused = s.pod(row.PCI), o.waiting[row.PCI], refused[row.PCI]
		row.offered(o.items[row.PCI])
		p.Devices = append(p.Devices, row)
	}
	for _, pci := range sortedKeys(o.items) {
		if i := o.items[pci]; s.functions[pci] == nil {
			row := Row{PCI: pci, PF: i.PF, VF: -1, NUMA: -1, Pod: s.pod(pci)}
			row.offered(i)
			p.Devices = append(p.Devices, row)
		}
	}
}

func rowOf(f *sriov.Function) Row {
	row := Row{PCI: f.PCI, PF: f.PF.Name, VF: f.Index, Driver: f.Driver, NUMA: f.NUMA}
	if row.PF == "" {
		row.PF = f.PF.PCI
	}
	return row
}

func (r *Row) offered(i *item) {
	if i != nil {
		r.Resource, r.Healthy, r.Reason = i.Resource, i.reason == "", i.reason
	}
}

// pod returns who has a device, as far as that is known.
func (s *sight) pod(pci string) string {
	if r := s.claims[pci].Record; r != nil {
		return r.Holder()
	}
	return s.holders[pci]
}

// TableHeader names the columns of Row.TableRow.
func TableHeader() []string {
	return []string{"RESOURCE", "PCI", "PF", "VF", "DRIVER", "NUMA", "HEALTH", "POD", "REASON"}
}

// TableRow shows a device as one row. Of one that no resource selects the
// reason is why, resource by resource.
func (r *Row) TableRow() []string {
	health := "-"
	switch {
	case r.Healthy:
		health = "Healthy"
	case r.Resource != "":
		health = "Unhealthy"
	}
	reason := r.Reason
	if r.Resource == "" && reason == "" {
		reason = r.why()
	}
	return []string{
		orDash(r.Resource), r.PCI, orDash(r.PF), natural(r.VF), orDash(r.Driver), natural(r.NUMA), health,
		orDash(r.Pod), orDash(strings.Join(strings.Fields(reason), " ")),
	}
}

func (r *Row) why() string {
	var all []string
	for _, refused := range r.Refused {
		why := strings.Join(refused.Why, ", ")
		if refused.Resource != "" {
			why = refused.Resource + ": " + why
		}
		all = append(all, why)
	}
	return strings.Join(all, "; ")
}

func natural(n int) string {
	if n < 0 {
		return "-"
	}
	return strconv.Itoa(n)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
