package nodetest

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/multiplexer-cni/multiplexer/internal/kubetest"
	"github.com/multiplexer-cni/multiplexer/internal/sriovtest/cards"
)

// cluster, node and the sysfs that the node's agent sees are every test's. A
// test leaves the node ready, with its agent running and without VFs.
var (
	cluster *Cluster
	node    *Node
	tree    *cards.Tree
	pf      string
)

// envOwner makes the test binary a process that is about to be killed.
const envOwner = "MULTIPLEXER_NODETEST_OWNER"

func TestMain(m *testing.M) {
	if os.Getenv(envOwner) != "" {
		os.Exit(own())
	}
	kubetest.Exit(run(m))
}

func run(m *testing.M) (code int, err error) {
	began := time.Now()
	if cluster, err = New(); err != nil {
		return 1, err
	}
	defer func() {
		if err = errors.Join(err, cluster.Close()); err == nil {
			err = goleak.Find()
		}
	}()
	if err = cluster.ApplyFiles("../../deploy/rbac.yaml", "../../deploy/network-attachment-definitions.yaml"); err != nil {
		return 1, err
	}
	controlPlane := time.Since(began)
	if node, err = cluster.AddNode("node-a", withPlugin); err != nil {
		return 1, err
	}
	known := time.Since(began)
	tree = cards.New(node.disk("sysfs"))
	pf = tree.Add(cards.Card{Model: cards.XXV710, PCI: "0000:17:00.0", Name: "ens1f0"})
	if err = prepare(); err != nil {
		return 1, fmt.Errorf("%w\n%s", err, node.tails())
	}
	fmt.Printf("control plane %.1f s, node known %.1f s, ready with its agent %.1f s\n",
		controlPlane.Seconds(), known.Seconds(), time.Since(began).Seconds())
	return m.Run(), nil
}

// prepare makes the node ready and a namespace for the tests' pods.
func prepare() error {
	return inOrder(
		cluster.WaitAgentRights,
		func() error { return node.StartAgent(agentFlags()...) },
		node.WaitAgent,
		func() error { return cluster.WaitReady(node) },
		func() error {
			return cluster.Apply(`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop"}}`)
		},
		func() error { return cluster.WaitNamespace("shop") },
	)
}

func agentFlags() []string {
	// No event tells of what changes in a tree of files.
	return []string{"--sweep", "1s", "--sysfs", tree.Dir(), "--device-rescan", "1s"}
}

func withPlugin(n *Node) error { return n.InstallPlugin(nil) }

func inOrder(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
