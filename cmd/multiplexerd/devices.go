package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/multiplexer-cni/multiplexer/pkg/deviceplugin"
	"github.com/multiplexer-cni/multiplexer/pkg/provision"
	"github.com/multiplexer-cni/multiplexer/pkg/resource"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// devicesFlags are the flags of `devices`.
type devicesFlags struct {
	vfsFlags
	plugin deviceFlags
}

func devicesCommand() *cobra.Command {
	f := &devicesFlags{}
	cmd := &cobra.Command{
		Use:   "devices",
		Short: "List what the device plugin offers to kubelet, and why the rest is not offered",
		Long: `List what the device plugin offers to kubelet, to which pods devices went, and
why a device is in no resource, selector by selector; then the PFs that get their
VFs from the agent, and what is wrong with the configuration.`,
		Example: `  multiplexerd devices
  multiplexerd devices -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.list(cmd.OutOrStdout())
		},
	}
	f.plugin.addFile(cmd.Flags())
	f.addWhere(cmd.Flags())
	return cmd
}

// devicesReport is what `devices -o json` prints.
type devicesReport struct {
	deviceplugin.Preview
	PFs []provision.PFStatus `json:"pfs"`
}

func (f *devicesFlags) list(out io.Writer) error {
	if err := oneOf("--output", f.output, "table", "json"); err != nil {
		return err
	}
	dir, err := f.place()
	if err != nil {
		return err
	}
	pfs, err := provision.ReadStatus(dir)
	if err != nil {
		return err
	}
	i := inventory(f.plugin.sys, dir)
	holders := f.holders()
	look := &deviceplugin.Manager{
		Sys: i.Sys, Kernel: i.Kernel, Claims: i.Claims, ConfigPath: f.seen(f.plugin.config), Prefix: f.plugin.prefix,
		Holders:  func() (map[string]string, time.Time) { return holders, time.Now() },
		Withhold: func(pf *sriov.PF, pci string) string { return provision.Withheld(pfs, pf, pci) },
		Log:      slog.New(slog.DiscardHandler), Now: time.Now,
	}
	preview, err := look.Preview()
	if errors.Is(err, fs.ErrPermission) {
		err = fmt.Errorf("%w; run it as root", err)
	}
	if err != nil {
		return err
	}
	report := devicesReport{Preview: *preview, PFs: append(pfs, notBegun(preview.PFs, pfs)...)}
	if holders == nil {
		report.Problems = append(report.Problems, "kubelet did not answer at "+f.seen(f.podResources)+": which pods have devices is not known, nor whether kubelet lists them")
	}
	if f.output == "json" {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(report)
	}
	return report.print(out)
}

// notBegun are the PFs of the configuration that no agent has said anything of.
func notBegun(wished []resource.PF, known []provision.PFStatus) []provision.PFStatus {
	all := []provision.PFStatus{}
	for _, pf := range wished {
		same := func(s provision.PFStatus) bool {
			return !s.Undo && (pf.PCI != "" && pf.PCI == s.PCI || pf.Name != "" && pf.Name == s.Name)
		}
		if !slices.ContainsFunc(known, same) {
			all = append(all, provision.PFStatus{Name: pf.Name, PCI: pf.PCI, NumVFs: pf.NumVFs, Driver: pf.Driver, MTU: pf.MTU,
				State: provision.Waiting, Reason: "no agent has begun with it: does one run on this node, with this file?"})
		}
	}
	return all
}

func (r *devicesReport) print(out io.Writer) error {
	lines := [][]string{deviceplugin.TableHeader()}
	for i := range r.Devices {
		lines = append(lines, r.Devices[i].TableRow())
	}
	if err := table(out, lines); err != nil {
		return err
	}
	if len(r.PFs) > 0 {
		lines = [][]string{provision.TableHeader()}
		for i := range r.PFs {
			lines = append(lines, r.PFs[i].TableRow())
		}
		if _, err := fmt.Fprintln(out); err != nil {
			return err
		}
		if err := table(out, lines); err != nil {
			return err
		}
	}
	for i, p := range r.Problems {
		lead := ""
		if i == 0 {
			lead = "\n"
		}
		if _, err := fmt.Fprintf(out, "%s%s\n", lead, p); err != nil {
			return err
		}
	}
	return nil
}
