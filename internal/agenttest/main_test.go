package agenttest

import (
	"errors"
	"testing"

	"github.com/multiplexer-cni/multiplexer/internal/kubetest"
)

// cluster is every test's; a test that makes its weather bad is not parallel.
var cluster *kubetest.Cluster

func TestMain(m *testing.M) {
	kubetest.Exit(run(m))
}

func run(m *testing.M) (code int, err error) {
	if cluster, err = kubetest.New(); err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, cluster.Close()) }()
	if err = Prepare(cluster, "../../deploy"); err != nil {
		return 1, err
	}
	return m.Run(), nil
}
