package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/deviceplugin"
	"github.com/multiplexer-cni/multiplexer/pkg/doctor"
	"github.com/multiplexer-cni/multiplexer/pkg/kubelet"
	"github.com/multiplexer-cni/multiplexer/pkg/provision"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// deviceChecks are those of the device plugin and of the PFs that it sets up.
func (f *doctorFlags) deviceChecks(stateDir string) []doctor.Check {
	return []doctor.Check{
		{Name: "device plugin", Look: func(ctx context.Context) []doctor.Finding { return f.checkDevices(ctx, stateDir) }},
		{Name: "PF setup", Look: func(context.Context) []doctor.Finding { return checkSetup(stateDir) }},
	}
}

func (f *doctorFlags) checkDevices(ctx context.Context, stateDir string) []doctor.Finding {
	config := f.seen(f.plugin.config)
	if !there(config) {
		return []doctor.Finding{{State: doctor.NA, What: config + " does not exist: no devices are offered"}}
	}
	pfs, err := provision.ReadStatus(stateDir)
	if err != nil {
		return []doctor.Finding{{State: doctor.Warn, What: err.Error(), Remedy: "start the agent"}}
	}
	i := inventory(f.plugin.sys, stateDir)
	look := &deviceplugin.Manager{
		Sys: i.Sys, Kernel: i.Kernel, Claims: i.Claims, ConfigPath: config, Prefix: f.plugin.prefix,
		Holders:  func() (map[string]string, time.Time) { return nil, time.Time{} },
		Withhold: func(pf *sriov.PF, pci string) string { return provision.Withheld(pfs, pf, pci) },
		Log:      discard(), Now: time.Now,
	}
	preview, err := look.Preview()
	if err != nil {
		return []doctor.Finding{{State: doctor.Fail, What: err.Error(), Remedy: "correct the file, or run this as root"}}
	}
	var out []doctor.Finding
	for _, p := range preview.Problems {
		out = append(out, doctor.Finding{State: doctor.Warn, What: p, Remedy: "correct the file; docs/device-plugin.md has its keys"})
	}
	resources, unhealthy := offered(preview)
	out = append(out, unhealthy...)
	out = append(out, f.unregistered(ctx, resources)...)
	if len(out) > 0 {
		return out
	}
	if len(resources) == 0 {
		return []doctor.Finding{{State: doctor.Warn, What: "no device of this node is in a resource of " + config, Remedy: "see why with multiplexerd devices"}}
	}
	return []doctor.Finding{{State: doctor.OK, What: strings.Join(resources, ", ")}}
}

// offered are the resources with devices, and what is wrong with the devices.
func offered(p *deviceplugin.Preview) (resources []string, wrong []doctor.Finding) {
	for i := range p.Devices {
		row := &p.Devices[i]
		if row.Resource == "" {
			continue
		}
		if !slices.Contains(resources, row.Resource) {
			resources = append(resources, row.Resource)
		}
		if !row.Healthy {
			wrong = append(wrong, doctor.Finding{
				State: doctor.Warn, What: fmt.Sprintf("%s of %s is Unhealthy: %s", row.PCI, row.Resource, row.Reason),
				Remedy: "correct what the reason names; kubelet gives it to no pod until then",
			})
		}
	}
	slices.Sort(resources)
	return resources, wrong
}

// unregistered names the resources that kubelet has not.
func (f *doctorFlags) unregistered(ctx context.Context, resources []string) []doctor.Finding {
	devices := &kubelet.Resources{Socket: f.seen(f.podResources), Log: discard()}
	defer func() { _ = devices.Close() }() // nothing was sent that could be lost
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	advertised, err := devices.Advertised(ctx)
	if err != nil {
		return nil // said of kubelet
	}
	var out []doctor.Finding
	for _, resource := range resources {
		if len(advertised[resource]) == 0 {
			out = append(out, doctor.Finding{
				State: doctor.Fail, What: "kubelet does not have " + resource + ": no pod that asks for it is scheduled here",
				Remedy: "see that the agent runs, and its log (part=device-plugin)",
			})
		}
	}
	return out
}

// checkSetup is about the PFs that get their VFs from the agent.
func checkSetup(stateDir string) []doctor.Finding {
	pfs, err := provision.ReadStatus(stateDir)
	if err != nil {
		return []doctor.Finding{{State: doctor.Warn, What: err.Error(), Remedy: "start the agent"}}
	}
	if len(pfs) == 0 {
		return []doctor.Finding{{State: doctor.NA, What: "the agent sets up no PFs"}}
	}
	var out []doctor.Finding
	for i := range pfs {
		row := pfs[i].TableRow()
		what := fmt.Sprintf("PF %s (%s): %s", row[0], row[1], row[5])
		if row[6] != "-" {
			what += ": " + row[6]
		}
		switch pfs[i].State {
		case provision.Done:
			if len(pfs[i].Waiting) == 0 {
				continue
			}
			out = append(out, doctor.Finding{State: doctor.Warn, What: what, Remedy: "delete the pods that have these VFs, or wait for their end"})
		case provision.Failed:
			out = append(out, doctor.Finding{State: doctor.Fail, What: what, Remedy: "correct what the reason names: it is tried again"})
		default:
			out = append(out, doctor.Finding{State: doctor.Warn, What: what, Remedy: "wait; multiplexerd devices shows how far it is"})
		}
	}
	if len(out) == 0 {
		return []doctor.Finding{{State: doctor.OK, What: fmt.Sprintf("%d PFs are as the configuration has them", len(pfs))}}
	}
	return out
}
