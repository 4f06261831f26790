package e2e

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"go.uber.org/goleak"
	appsv1 "k8s.io/api/apps/v1"

	"github.com/multiplexer-cni/multiplexer/internal/kubetest"
	"github.com/multiplexer-cni/multiplexer/internal/nodetest"
)

const deploy = "../../deploy/"

// patience is how long something may take on a busy machine.
const patience = 4 * time.Minute

// until calls f until it succeeds.
func until(f func() error) error {
	return kubetest.Poll(patience, func() (bool, error) {
		err := f()
		return err == nil, err
	})
}

// The cluster and its nodes are every test's.
var (
	cluster *nodetest.Cluster
	nodes   []*nodetest.Node
)

func TestMain(m *testing.M) {
	kubetest.Exit(run(m))
}

func run(m *testing.M) (code int, err error) {
	began := time.Now()
	image := buildImage()
	defer image.remove()
	if cluster, err = nodetest.New(); err != nil {
		return 1, err
	}
	defer func() {
		if err = errors.Join(err, cluster.Close()); err == nil {
			err = goleak.Find()
		}
	}()
	for i, name := range []string{"node-a", "node-b"} {
		n, addErr := cluster.AddNode(name, func(n *nodetest.Node) error { return errors.Join(n.InstallFlannel(), addNetworks(n, i)) })
		if addErr != nil {
			return 1, addErr
		}
		nodes = append(nodes, n)
		if err = n.StartKubeProxy(); err != nil {
			return 1, err
		}
	}
	clusterTime := time.Since(began)
	if err = install(image); err != nil {
		return 1, fmt.Errorf("%w\n%s", err, agentLogs())
	}
	fmt.Printf("two nodes %.1f s, multiplexer on both %.1f s\n", clusterTime.Seconds(), time.Since(began).Seconds())
	return m.Run(), nil
}

// install does what docs/deploy.md says, and returns when the DaemonSet says
// that every node is ready.
func install(image *image) error {
	if err := cluster.WaitReady(nodes...); err != nil {
		return err
	}
	for _, n := range nodes {
		if err := image.load(n); err != nil {
			return err
		}
	}
	if err := cluster.ApplyFiles(deploy+"network-attachment-definitions.yaml", deploy+"install.yaml"); err != nil {
		return err
	}
	if err := cluster.Apply(definitions()...); err != nil {
		return err
	}
	return ready("multiplexer", len(nodes))
}

// ready waits until so many pods of a DaemonSet are, as `kubectl rollout
// status` does for all.
func ready(set string, count int) error {
	err := until(func() error {
		var now appsv1.DaemonSet
		answer, err := cluster.Do("GET", "/apis/apps/v1/namespaces/kube-system/daemonsets/"+set, nil)
		if err == nil {
			err = answer.Into(&now)
		}
		if err == nil && int(now.Status.NumberReady) != count {
			err = fmt.Errorf("%d of %d pods are ready", now.Status.NumberReady, count)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("wait for the DaemonSet %s: %w", set, err)
	}
	return nil
}
