package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/multiplexer-cni/multiplexer/pkg/agentapi"
	"github.com/multiplexer-cni/multiplexer/pkg/explain"
	"github.com/multiplexer-cni/multiplexer/pkg/install"
	"github.com/multiplexer-cni/multiplexer/pkg/journal"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/podns"
)

// explainFlags are the flags of `explain`.
type explainFlags struct {
	lookFlags
	node, socket string
}

// errUnknownPod makes the exit status 1; the text has said where to look.
var errUnknownPod = errors.New("nothing is known of the pod here")

func explainCommand() *cobra.Command {
	f := &explainFlags{}
	cmd := &cobra.Command{
		Use:   "explain NAMESPACE/POD",
		Short: "Say what a pod asked for, what it got, and what failed",
		Long: `Say what a pod of this node asked for, which networks that is and from where they
come, which device each has and by which rule, which NIC carries what, and what
failed in which phase. Of a pod that has not got its networks: what it would get
now, by the agent's own answer, or why not.

The journals of this node are read, and the records of pods that Multus attached;
the API server and the agent are asked, as far as they can be. It changes nothing.`,
		Example: `  multiplexerd explain shop/web-0
  multiplexerd explain shop/web-0 --kubeconfig /etc/kubernetes/kubelet.conf -o json
  kubectl -n kube-system exec AGENT-OF-THE-NODE -- multiplexerd explain shop/web-0`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			return f.run(ctx, cmd.OutOrStdout(), args[0])
		},
		ValidArgsFunction: completePods(),
	}
	f.add(cmd.Flags())
	cmd.Flags().StringVar(&f.node, "node-name", os.Getenv("NODE_NAME"), "name of this node in the cluster (or $NODE_NAME), to tell a pod of another one")
	cmd.Flags().StringVar(&f.socket, "socket", "", "the agent's socket; without it, what the installed configuration says")
	completeOutput(cmd)
	return cmd
}

func (f *explainFlags) run(ctx context.Context, out io.Writer, pod string) error {
	if err := oneOf("--output", f.output, "table", "json"); err != nil {
		return err
	}
	namespace, name, ok := strings.Cut(pod, "/")
	if !ok || namespace == "" || name == "" {
		return fmt.Errorf("pod %q: want NAMESPACE/POD", pod)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	explainer, done, err := f.explainer()
	if err != nil {
		return err
	}
	defer done()
	x, err := explainer.Explain(ctx, namespace, name)
	if err != nil {
		return err
	}
	if f.output == "json" {
		err = printJSON(out, x)
	} else {
		err = printSections(out, x.Sections())
	}
	if err == nil && x.Missing {
		err = errUnknownPod
	}
	return err
}

// explainer is what answers. done is to be called afterwards.
func (f *explainFlags) explainer() (e *explain.Explainer, done func(), err error) {
	config, err := f.configuration()
	if err != nil {
		return nil, nil, err
	}
	e = &explain.Explainer{Root: f.root, Config: config, Unseen: f.unseen(), Store: &journal.Store{Dir: f.where(config), Now: time.Now}, Node: f.node}
	if e.Boot, err = podns.BootID("/proc/sys/kernel/random/boot_id"); err != nil {
		return nil, nil, err
	}
	socket := config.AgentSocket
	if f.socket != "" {
		socket = f.socket
	}
	if e.WithoutAgent = `agentSocket is "": the node has no agent`; socket != "" {
		e.Ask = func(ctx context.Context, request agentapi.Request) (*agentapi.Known, error) {
			return agentapi.Ask(ctx, f.at(socket), request)
		}
	}
	reader, without, err := f.cluster()
	if err != nil {
		return nil, nil, err
	}
	done = func() {}
	if e.WithoutCluster = without; reader != nil {
		e.Cluster, done = reader, reader.Close
	}
	return e, done, nil
}

// configuration is the plugin's, as it is on the node; the defaults where it
// is not there, since pods may have networks all the same.
func (f *nodeFlags) configuration() (*network.Config, error) {
	paths, err := f.detect()
	if err != nil {
		return nil, err
	}
	placed, err := install.FindPlaced(f.root, paths.ConfDir)
	if err != nil {
		return nil, err
	}
	if placed == nil {
		return install.Settings{}.Config()
	}
	return network.ParseForDEL(placed.Entry) // a misspelt value is for doctor to say
}

func printSections(out io.Writer, sections []explain.Section) error {
	for i, s := range sections {
		lead := ""
		if i > 0 {
			lead = "\n"
		}
		if s.Title != "" {
			lead += s.Title + "\n"
		}
		if _, err := io.WriteString(out, lead); err != nil {
			return err
		}
		if err := trimmed(out, wrapped(s.Rows, s.Widths...)); err != nil {
			return err
		}
	}
	return nil
}
