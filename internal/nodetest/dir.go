package nodetest

import (
	"path/filepath"

	"github.com/multiplexer-cni/multiplexer/internal/kubetest"
)

// dirPrefix is how the directories of clusters begin, and so do the names of
// their nodes' cgroups.
const dirPrefix = "mxnode-"

// makeTempDir makes a cluster's directory. The cgroups of its nodes go first:
// they hold nothing any more.
func makeTempDir() (*kubetest.TempDir, error) {
	return kubetest.MakeTempDir(dirPrefix, func(path string) error { return removeCgroups(filepath.Base(path)) })
}
