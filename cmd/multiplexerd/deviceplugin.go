package main

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/pflag"

	"github.com/multiplexer-cni/multiplexer/pkg/agent"
	"github.com/multiplexer-cni/multiplexer/pkg/deviceplugin"
	"github.com/multiplexer-cni/multiplexer/pkg/podns"
	"github.com/multiplexer-cni/multiplexer/pkg/provision"
	"github.com/multiplexer-cni/multiplexer/pkg/resource"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// deviceFlags are the flags of the device plugin.
type deviceFlags struct {
	config, prefix     string
	kubelet            string
	deviceInfo, cdi    string
	sys, dev           string
	udev, networkManag string
	rescan             time.Duration
}

func (f *deviceFlags) add(flags *pflag.FlagSet) {
	f.addFile(flags)
	flags.StringVar(&f.kubelet, "kubelet-dir", "/var/lib/kubelet", "kubelet's directory, with plugins_registry or device-plugins in it")
	flags.StringVar(&f.deviceInfo, "device-info-dir", "/var/run/k8s.cni.cncf.io/devinfo", "where device information is exchanged with CNI plugins")
	flags.StringVar(&f.cdi, "cdi-dir", "", "give devices to containers by CDI specs in this directory, such as /var/run/cdi; \"\" = without CDI")
	flags.StringVar(&f.dev, "dev-dir", "/dev", "where the node's /dev can be seen")
	flags.StringVar(&f.udev, "udev-dir", "/run/udev/rules.d", "where NetworkManager is told to leave VFs alone, on nodes that have it; \"\" = nowhere")
	flags.StringVar(&f.networkManag, "network-manager-dir", "/etc/NetworkManager", "NetworkManager's directory, where the node has it")
	flags.DurationVar(&f.rescan, "device-rescan", 5*time.Minute, "time between two looks at all devices, besides those that the kernel's events cause")
	for _, name := range []string{"network-manager-dir", "device-rescan"} {
		hide(flags, name)
	}
}

// addFile adds the flags that say what is read.
func (f *deviceFlags) addFile(flags *pflag.FlagSet) {
	flags.StringVar(&f.config, "device-config", "/etc/multiplexer/devices/config.json", "the device plugin's file; while there is none, no devices are offered")
	flags.StringVar(&f.prefix, "resource-prefix", "intel.com", "prefix of resources without a resourcePrefix")
	flags.StringVar(&f.sys, "sysfs", "/sys", "where sysfs is mounted")
	hide(flags, "sysfs")
}

func hide(flags *pflag.FlagSet, name string) {
	if err := flags.MarkHidden(name); err != nil {
		panic(err) // the flag is named above
	}
}

func (f *deviceFlags) check() error {
	for flag, path := range map[string]string{
		"--device-config": f.config, "--kubelet-dir": f.kubelet, "--device-info-dir": f.deviceInfo, "--cdi-dir": f.cdi,
		"--dev-dir": f.dev, "--udev-dir": f.udev, "--sysfs": f.sys,
	} {
		mayBeEmpty := flag == "--cdi-dir" || flag == "--udev-dir"
		if !filepath.IsAbs(path) && (path != "" || !mayBeEmpty) {
			return fmt.Errorf("%s %q: want an absolute path", flag, path)
		}
	}
	if f.rescan < time.Second {
		return fmt.Errorf("--device-rescan %s: want at least 1s", f.rescan)
	}
	return nil
}

// run makes the device plugin, and what sets up PFs for it, parts of the agent.
func (f *deviceFlags) run(a *agent.Agent, r *runFlags) error {
	i := inventory(f.sys, r.StateDir)
	plugin := &deviceplugin.Manager{
		Sys: i.Sys, Kernel: i.Kernel, Claims: i.Claims,
		ConfigPath: f.config, Prefix: f.prefix, KubeletDir: f.kubelet,
		DeviceInfoDir: f.deviceInfo, CDIDir: f.cdi, DevDir: f.dev, Rescan: f.rescan,
		Holders: a.Holders, Ask: a.AskHolders, Log: r.Log.With("part", "device-plugin"), Now: time.Now,
	}
	setup, err := provision.New(provision.Options{
		Sys: i.Sys, Kernel: i.Kernel, Writer: sriov.Linux{Sys: i.Sys}, Claims: i.Claims,
		Allocated: r.devices.Holders, Lives: func(ref podns.Ref) bool { return a.Lives(ref) },
		StateDir: r.StateDir, BootIDPath: r.BootIDPath, UdevDir: f.udev, NMDir: f.networkManag,
		Log: r.Log.With("part", "provision"), Now: time.Now, OnChange: plugin.Recheck,
	})
	if err != nil {
		return err
	}
	plugin.Withhold, plugin.OnChange = setup.WithholdVF, setup.Poke
	plugin.OnConfig = func(c *resource.Config) {
		if !c.PFsInDoubt {
			setup.Configure(c.PFs)
			return
		}
		r.Log.Warn("PFs are set up as before: part of the device plugin's configuration is not understood, see above", "file", c.Source)
	}
	a.With(plugin.Run)
	a.With(setup.Run)
	return a.Collect(plugin.Collector())
}
