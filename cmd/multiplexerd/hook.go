package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// pauseCommand is what a pod of the DaemonSet multiplexer-uninstall does when
// its node is done: it stays, and so is ready (docs/adr/0018).
func pauseCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "pause",
		Short:  "Do nothing until a signal comes",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			<-ctx.Done()
			return nil
		},
	}
}

// awaitCommand is what the chart's pre-delete Job does.
func awaitCommand() *cobra.Command {
	f := &runFlags{}
	var every time.Duration
	cmd := &cobra.Command{
		Use:    "await NAMESPACE/NAME",
		Short:  "Wait until a DaemonSet is ready on all its nodes",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			namespace, name, _ := strings.Cut(args[0], "/")
			if err := errors.Join(network.ValidateObjectName("namespace", namespace), network.ValidateObjectName("DaemonSet", name)); err != nil {
				return fmt.Errorf("%q: want NAMESPACE/NAME: %w", args[0], err)
			}
			config, err := f.clusterConfig()
			if err != nil {
				return err
			}
			config.Timeout = 10 * time.Second
			return awaitReady(ctx, config, namespace, name, every, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&f.kubeconfig, "kubeconfig", "", "kubeconfig file; without one the pod's service account is used")
	cmd.Flags().DurationVar(&every, "every", 2*time.Second, "time between two looks")
	return cmd
}

// progress is how far a DaemonSet is.
type progress struct {
	Metadata struct{ Generation int64 }
	Status   struct {
		ObservedGeneration                                          int64
		DesiredNumberScheduled, UpdatedNumberScheduled, NumberReady int
	}
}

func (p *progress) done() bool {
	s := p.Status
	return s.ObservedGeneration >= p.Metadata.Generation && s.ObservedGeneration > 0 &&
		s.UpdatedNumberScheduled >= s.DesiredNumberScheduled && s.NumberReady >= s.DesiredNumberScheduled
}

func (p *progress) String() string {
	if p.Status.ObservedGeneration < p.Metadata.Generation || p.Status.ObservedGeneration == 0 {
		return "no node has begun yet"
	}
	return fmt.Sprintf("%d of %d nodes are done", p.Status.NumberReady, p.Status.DesiredNumberScheduled)
}

// awaitReady looks at a DaemonSet until it is ready, and says how far it is.
// An API server that is away is waited for.
func awaitReady(ctx context.Context, config *rest.Config, namespace, name string, every time.Duration, out io.Writer) error {
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	said := ""
	for {
		p, getErr := getProgress(ctx, client, config.Host, namespace, name)
		now := ""
		switch {
		case getErr == nil && p.done():
			_, err = fmt.Fprintf(out, "%s/%s: all %d nodes are done\n", namespace, name, p.Status.DesiredNumberScheduled)
			return err
		case getErr == nil:
			now = fmt.Sprintf("%s; for what the others wait: kubectl -n %s logs -c uninstall -l app.kubernetes.io/component=uninstall --prefix", p, namespace)
		default:
			now = getErr.Error()
		}
		if now != said {
			said = now
			_, _ = fmt.Fprintf(out, "%s/%s: %s\n", namespace, name, now) // nobody reads it if this fails
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s/%s: %s", namespace, name, now)
		case <-time.After(every):
		}
	}
}

func getProgress(ctx context.Context, client *http.Client, host, namespace, name string) (*progress, error) {
	path := "/apis/apps/v1/namespaces/" + url.PathEscape(namespace) + "/daemonsets/" + url.PathEscape(name)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(host, "/")+path, nil)
	if err != nil {
		return nil, err
	}
	answer, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: HTTP %d: %.200s", path, answer.StatusCode, body)
	}
	p := &progress{}
	if err = json.Unmarshal(body, p); err != nil {
		return nil, fmt.Errorf("GET %s: %w", path, err)
	}
	return p, nil
}
