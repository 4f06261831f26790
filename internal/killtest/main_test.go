package killtest

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/multiplexer-cni/multiplexer/internal/kubetest"
	"github.com/multiplexer-cni/multiplexer/internal/nodetest"
)

// cluster and beds are the matrix's.
var (
	cluster *nodetest.Cluster
	beds    []*bed
)

func TestMain(m *testing.M) {
	kubetest.Exit(run(m))
}

func run(m *testing.M) (code int, err error) {
	began := time.Now()
	dir, err := os.MkdirTemp("", "multiplexer-killtest-")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	images := inBackground(func() error { return buildImages(dir) })
	if cluster, err = nodetest.New(limits().apiServer...); err != nil {
		return 1, err
	}
	defer func() {
		if err = errors.Join(err, cluster.Close()); err == nil {
			err = goleak.Find()
		}
	}()
	if err = errors.Join(prepareCluster(), <-images); err != nil {
		return 1, err
	}
	for _, name := range []string{"node-a", "node-b", "node-c", "node-d"} {
		b, addErr := newBed(name)
		if addErr != nil {
			return 1, addErr
		}
		beds = append(beds, b)
	}
	if err = each(beds, func(b *bed) error { return b.prepare(dir) }); err != nil {
		return 1, err
	}
	// The last one is the first row's to install.
	if err = each(beds[:3], (*bed).settleIn); err != nil {
		return 1, err
	}
	fmt.Printf("four nodes, three with multiplexer, after %.0f s\n", time.Since(began).Seconds())
	return m.Run(), nil
}

// prepareCluster sets the limits of the control plane and makes what all
// nodes share.
func prepareCluster() error {
	return inOrder(
		func() error { return cluster.ControllerManager.Reconfigure(limits().controllerManager...) },
		func() error { return cluster.ApplyFiles("../../deploy/network-attachment-definitions.yaml") },
		func() error { return cluster.Apply(namespace, definition()) },
		func() error { return cluster.WaitNamespace("shop") },
		applyShared,
	)
}

func inOrder(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// each does something with all beds at once.
func each(beds []*bed, f func(*bed) error) error {
	results := make([]<-chan error, len(beds))
	for i, b := range beds {
		results[i] = inBackground(func() error {
			if err := f(b); err != nil {
				return fmt.Errorf("%s: %w", b.Name, err)
			}
			return nil
		})
	}
	var err error
	for _, result := range results {
		err = errors.Join(err, <-result)
	}
	return err
}

func inBackground(f func() error) <-chan error {
	result := make(chan error, 1)
	go func() { result <- f() }()
	return result
}
