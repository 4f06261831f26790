package kubelet

import (
	"testing"

	"github.com/multiplexer-cni/multiplexer/internal/kubelettest"
)

func TestHasGet(t *testing.T) {
	for get, want := range map[kubelettest.Get]bool{
		kubelettest.GetServed: true, kubelettest.GetGateOff: false, kubelettest.GetUnimplemented: false,
	} {
		k, r, _ := start(t)
		k.SetGet(get)
		if got, err := r.HasGet(t.Context()); err != nil || got != want {
			t.Errorf("%v: %v, %v", get, got, err)
		}
		k.RequireStop(t)
		if _, err := r.HasGet(t.Context()); err == nil {
			t.Error("a kubelet that is down has an answer")
		}
	}
}
