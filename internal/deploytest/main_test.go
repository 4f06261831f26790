package deploytest

import (
	"errors"
	"testing"

	"go.uber.org/goleak"

	"github.com/multiplexer-cni/multiplexer/internal/kubetest"
	"github.com/multiplexer-cni/multiplexer/internal/nodetest"
)

// chart and deploy are where this package finds what it tests.
const (
	chart  = "../../deploy/chart"
	deploy = "../../deploy"
)

// cluster and helm are every test's.
var (
	cluster *kubetest.Cluster
	helm    string
)

func TestMain(m *testing.M) {
	kubetest.Exit(run(m))
}

func run(m *testing.M) (code int, err error) {
	if helm, err = nodetest.Helm(); err != nil {
		return 1, err
	}
	if cluster, err = kubetest.New(); err != nil {
		return 1, err
	}
	defer func() {
		if err = errors.Join(err, cluster.Close()); err == nil {
			err = goleak.Find()
		}
	}()
	return m.Run(), nil
}
