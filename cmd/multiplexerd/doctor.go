package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"github.com/multiplexer-cni/multiplexer/pkg/doctor"
	"github.com/multiplexer-cni/multiplexer/pkg/k8sclient"
)

// lookFlags are the flags of what looks at a node: doctor and explain.
type lookFlags struct {
	placeFlags
	podResources, kubeconfig, output string
}

func (f *lookFlags) add(flags *pflag.FlagSet) {
	f.placeFlags.add(flags)
	flags.StringVar(&f.podResources, "pod-resources-socket", "/var/lib/kubelet/pod-resources/kubelet.sock", "kubelet's pod-resources socket")
	flags.StringVar(&f.kubeconfig, "kubeconfig", "", "kubeconfig file, to ask the API server too; without one the pod's service account is used, outside of a pod nobody")
	flags.StringVarP(&f.output, "output", "o", "table", "table or json")
}

// cluster connects to the API server. Where nobody said how, that is no
// error: `without` says so.
func (f *lookFlags) cluster() (reader *k8sclient.Reader, without string, err error) {
	klog.SetSlogLogger(discard())
	config, err := (&runFlags{kubeconfig: f.kubeconfig}).clusterConfig()
	switch {
	case f.kubeconfig == "" && errors.Is(err, rest.ErrNotInCluster):
		return nil, "the API server is not asked: name a kubeconfig file with --kubeconfig", nil
	case f.kubeconfig == "" && err != nil: // a pod without a service account's token
		return nil, "the API server is not asked: " + err.Error(), nil
	}
	if err != nil {
		return nil, "", err
	}
	config.UserAgent = "multiplexerd"
	reader, err = k8sclient.NewReader(config)
	return reader, "", err
}

// doctorFlags are the flags of `doctor`.
type doctorFlags struct {
	lookFlags
	plugin     deviceFlags
	kubeletDir string
	metrics    string
}

// errUnwell makes the exit status 1; the table has said why.
var errUnwell = errors.New("something on this node is not as it should be: see the rows that say fail")

func doctorCommand() *cobra.Command {
	f := &doctorFlags{}
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look over this node, and say what to do about what is wrong",
		Long: `Look over this node: the runtime's directories and who is first in them, the
cluster network, the plugin and the executables that the networks need, the agent,
kubelet, rights, journals, VFs, and the device plugin. It changes nothing.

  ok    as it should be
  warn  pods work; something will not, or not for long
  fail  pods, or some of them, do not get their networks: the exit status is 1
  n/a   it does not apply here, or could not be looked at`,
		Example: `  multiplexerd doctor
  multiplexerd doctor --kubeconfig /etc/kubernetes/kubelet.conf -o json
  kubectl -n kube-system exec AGENT-OF-THE-NODE -- multiplexerd doctor`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			return f.run(ctx, cmd.OutOrStdout())
		},
	}
	flags := cmd.Flags()
	f.add(flags)
	f.plugin.addFile(flags)
	flags.StringVar(&f.kubeletDir, "kubelet-dir", "/var/lib/kubelet", "kubelet's directory, with plugins_registry or device-plugins in it")
	flags.StringVar(&f.metrics, "metrics-address", "127.0.0.1:9745", "the agent's --metrics-address, to ask it what it waits for; \"\" if it has none")
	completeOutput(cmd)
	return cmd
}

// patience bounds a look at a node, whatever hangs.
const patience = 30 * time.Second

func (f *doctorFlags) run(ctx context.Context, out io.Writer) error {
	if err := oneOf("--output", f.output, "table", "json"); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	node, done, err := f.node()
	if err != nil {
		return err
	}
	defer done()
	report := node.Look(ctx)
	if f.output == "json" {
		err = printJSON(out, report)
	} else {
		rows := [][]string{doctor.TableHeader()}
		for i := range report.Rows {
			rows = append(rows, report.Rows[i].TableRow())
		}
		err = trimmed(out, wrapped(rows, 0, 0, 52, 44))
	}
	if err == nil && report.Failed() {
		err = errUnwell
	}
	return err
}

// node is what is looked at. done is to be called afterwards.
func (f *doctorFlags) node() (node *doctor.Node, done func(), err error) {
	done = func() {}
	if err = f.detectable(); err != nil {
		return nil, done, err
	}
	node = &doctor.Node{
		Root: f.root, Given: f.Given, StateDir: f.stateDir, Version: version, Embedded: embeddedPlugins(),
		PodResources: f.seen(f.podResources), KubeletDir: f.seen(f.kubeletDir), Metrics: f.metrics, DeviceConfig: f.seen(f.plugin.config),
		BootIDPath: "/proc/sys/kernel/random/boot_id", Now: time.Now,
	}
	node.Unseen = f.unseen()
	node.VFs = inventory(f.plugin.sys, node.WhereState())
	reader, without, err := f.cluster()
	if err != nil {
		return nil, done, err
	}
	if node.WithoutCluster = without; reader != nil {
		node.Cluster, done = reader, reader.Close
	}
	node.More = f.deviceChecks(node.WhereState())
	return node, done, nil
}

// detectable refuses flags that say nothing; what the node itself says wrong
// is a finding.
func (f *nodeFlags) detectable() error {
	for flag, path := range map[string]string{"--host-root": f.root, "--cni-conf-dir": f.ConfDir, "--cni-bin-dir": f.BinDir} {
		if path != "" && path[0] != '/' {
			return fmt.Errorf("%s %q: want an absolute path", flag, path)
		}
	}
	return nil
}

// embeddedPlugins are the plugin types that run in the plugin's own process.
func embeddedPlugins() []string { return []string{"sriov", "fixipam"} }

func printJSON(out io.Writer, v any) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

// there reports whether a file is there, be it behind a link.
func there(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
