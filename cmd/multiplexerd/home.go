package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/pflag"

	"github.com/multiplexer-cni/multiplexer/pkg/kubelet"
	"github.com/multiplexer-cni/multiplexer/pkg/lockfile"
	"github.com/multiplexer-cni/multiplexer/pkg/provision"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// homeFlags say where the PFs are that the agent set up.
type homeFlags struct {
	sys, podResources, udev, networkManager string
}

func (f *homeFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.podResources, "pod-resources-socket", "/var/lib/kubelet/pod-resources/kubelet.sock", "kubelet's pod-resources socket: VFs that a pod has stay; \"\" on a node without kubelet")
	flags.StringVar(&f.udev, "udev-dir", "/run/udev/rules.d", "where NetworkManager was told to leave VFs alone; \"\" = nowhere")
	flags.StringVar(&f.networkManager, "network-manager-dir", "/etc/NetworkManager", "NetworkManager's directory, where the node has it")
	flags.StringVar(&f.sys, "sysfs", "/sys", "where sysfs is mounted")
	hide(flags, "network-manager-dir")
	hide(flags, "sysfs")
}

// home brings the PFs that the agent set up back to what they were. An agent
// that runs would set them up again: it ends when it sees that the node is
// being uninstalled, and is waited for.
func (f *homeFlags) home(ctx context.Context, stateDir string, log *slog.Logger) error {
	dir, err := os.Open(stateDir)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err = lockfile.Take(ctx, dir); err != nil {
		return fmt.Errorf("return the VFs: an agent on this node still hands out devices: end it, and uninstall again: %w", err)
	}
	i := inventory(f.sys, stateDir)
	o := provision.Options{
		Sys: i.Sys, Kernel: i.Kernel, Writer: sriov.Linux{Sys: i.Sys}, Claims: i.Claims,
		StateDir: stateDir, BootIDPath: "/proc/sys/kernel/random/boot_id", UdevDir: f.udev, NMDir: f.networkManager,
		Log: log, Now: time.Now,
	}
	if f.podResources != "" {
		devices := &kubelet.Resources{Socket: f.podResources, Log: log}
		defer func() { _ = devices.Close() }() // nothing was sent that could be lost
		o.Allocated = devices.Holders
	}
	p, err := provision.New(o)
	if err != nil {
		return err
	}
	if err = p.Undo(ctx); err != nil {
		return fmt.Errorf("return the VFs: %w", err)
	}
	return nil
}
