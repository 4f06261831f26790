package kubelettest

import (
	"path/filepath"
	"testing"
)

// Start starts a kubelet on the socket kubelet.sock in dir, which the end of
// the test stops. The socket's path has at most 107 bytes.
func Start(tb testing.TB, dir string) *Kubelet {
	tb.Helper()
	k, err := New(filepath.Join(dir, "kubelet.sock"))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if stopErr := k.Stop(); stopErr != nil {
			tb.Error(stopErr)
		}
	})
	return k
}

// RequireStop calls [Kubelet.Stop].
func (k *Kubelet) RequireStop(tb testing.TB) {
	tb.Helper()
	if err := k.Stop(); err != nil {
		tb.Fatal(err)
	}
}

// RequireRestart calls [Kubelet.Restart].
func (k *Kubelet) RequireRestart(tb testing.TB) {
	tb.Helper()
	if err := k.Restart(); err != nil {
		tb.Fatal(err)
	}
}
