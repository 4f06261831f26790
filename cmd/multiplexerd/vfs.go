package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/multiplexer-cni/multiplexer/pkg/kubelet"
	"github.com/multiplexer-cni/multiplexer/pkg/podns"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// vfsFlags are the flags of `vfs`.
type vfsFlags struct {
	placeFlags
	output, sys, podResources string
}

func vfsCommand() *cobra.Command {
	f := &vfsFlags{}
	cmd := &cobra.Command{
		Use:   "vfs",
		Short: "List the node's SR-IOV VFs, and whose they are",
		Long: `List the node's SR-IOV virtual functions (VFs), and the physical functions (PFs)
that went to a pod themselves: what they are, in which state, and whose.

  free         nobody has it
  allocated    kubelet gave it to a container
  in pod       it is configured for a pod that lives
  leaked       its pod has ended, and its release is still to come
  quarantined  it could not be restored; REASON says why`,
		Example: `  multiplexerd vfs
  multiplexerd vfs -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.list(cmd.OutOrStdout())
		},
	}
	f.addWhere(cmd.Flags())
	cmd.Flags().StringVar(&f.sys, "sysfs", "/sys", "where sysfs is mounted")
	hide(cmd.Flags(), "sysfs")
	return cmd
}

// addWhere adds the flags that other lists of devices have too.
func (f *vfsFlags) addWhere(flags *pflag.FlagSet) {
	f.add(flags)
	flags.StringVarP(&f.output, "output", "o", "table", "table or json")
	flags.StringVar(&f.podResources, "pod-resources-socket", "/var/lib/kubelet/pod-resources/kubelet.sock", "kubelet's pod-resources socket, to tell which VFs are allocated")
}

// inventory reads the node's VFs.
func inventory(sys, stateDir string) sriov.Inventory {
	return sriov.Inventory{
		Sys:    sriov.Sysfs(sys),
		Kernel: sriov.Resident{Linux: sriov.Linux{Sys: sriov.Sysfs(sys)}},
		Claims: sriov.NewClaims(stateDir, "/var/lib/cni/sriov"),
	}
}

// holders are the pods that kubelet gave devices to. A node may have no
// kubelet, and VFs are listed without it.
func (f *vfsFlags) holders() map[string]string {
	socket := f.seen(f.podResources)
	if _, err := os.Stat(socket); err != nil {
		return nil
	}
	devices := &kubelet.Resources{Socket: socket, Log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	holders, err := devices.Holders(ctx)
	_ = devices.Close() // nothing was sent that could be lost
	if err != nil {
		return nil
	}
	return holders
}

func (f *vfsFlags) list(out io.Writer) error {
	if err := oneOf("--output", f.output, "table", "json"); err != nil {
		return err
	}
	dir, err := f.place()
	if err != nil {
		return err
	}
	i := inventory(f.sys, dir)
	if i.Boot, err = podns.BootID("/proc/sys/kernel/random/boot_id"); err != nil {
		return err
	}
	i.Allocated = f.holders()
	pfs, rows, lookErr := i.Look()
	if errors.Is(lookErr, fs.ErrPermission) {
		lookErr = fmt.Errorf("%w; run it as root", lookErr)
	}
	switch {
	case lookErr != nil && rows == nil: // that there is none is not known
	case f.output == "json":
		err = vfsJSON(out, rows)
	case len(rows) == 0:
		err = noVFs(out, pfs)
	default:
		err = vfsTable(out, rows)
	}
	return errors.Join(err, lookErr)
}

func vfsJSON(out io.Writer, rows []sriov.VFRow) error {
	if rows == nil {
		rows = []sriov.VFRow{}
	}
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(rows)
}

func vfsTable(out io.Writer, rows []sriov.VFRow) error {
	lines := [][]string{sriov.TableHeader()}
	for i := range rows {
		lines = append(lines, rows[i].TableRow())
	}
	return table(out, lines)
}

func noVFs(out io.Writer, pfs []string) error {
	text := "This node has no network card that can have VFs (no PCI device with sriov_totalvfs)."
	if len(pfs) > 0 {
		text = "No PF of this node has VFs: " + strings.Join(pfs, ", ") + "; make some by sriov_numvfs."
	}
	_, err := fmt.Fprintln(out, text)
	return err
}
