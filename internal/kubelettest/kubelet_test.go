package kubelettest

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	podresources "k8s.io/kubelet/pkg/apis/podresources/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func connect(t *testing.T, k *Kubelet) podresources.PodResourcesListerClient {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+k.Socket(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return podresources.NewPodResourcesListerClient(conn)
}

// Any client meets the manners of a kubelet.
func TestManners(t *testing.T) {
	k := Start(t, t.TempDir())
	c := connect(t, k)
	k.SetPod("shop", "web", Container{Name: "c", Devices: []Device{{"x/vf", "a", []int64{0, 1}}, {"x/vf", "b", nil}, {"x/vf", "d", nil}}})
	web := &podresources.GetPodResourcesRequest{PodNamespace: "shop", PodName: "web"}
	orders := map[string]bool{}
	for range 40 {
		answer, err := c.Get(t.Context(), web)
		if status.Code(err) == codes.ResourceExhausted {
			time.Sleep(20 * time.Millisecond)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		order := ""
		for _, entry := range answer.GetPodResources().GetContainers()[0].GetDevices() {
			order += strings.Join(entry.GetDeviceIds(), ",")
		}
		if len(order) != 4 {
			t.Fatalf("entries %q", order)
		}
		orders[order] = true
	}
	if len(orders) < 2 {
		t.Errorf("always in the order %v", orders)
	}
	// One after the other they may be too slow for the limit.
	var limited atomic.Int64
	var asking sync.WaitGroup
	for range 200 {
		asking.Go(func() {
			if _, err := c.List(t.Context(), &podresources.ListPodResourcesRequest{}); status.Code(err) == codes.ResourceExhausted {
				limited.Add(1)
			}
		})
	}
	asking.Wait()
	if limited.Load() == 0 {
		t.Error("requests are not limited")
	}
	k.RequireRestart(t)
	k.RemovePod("shop", "web")
	c = connect(t, k)
	for get, want := range map[Get]string{
		GetServed: "pod web in namespace shop not found", GetGateOff: "PodResources API Get method disabled", GetUnimplemented: "method Get not implemented",
	} {
		k.SetGet(get)
		if _, err := c.Get(t.Context(), web); err == nil || status.Convert(err).Message() != want {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestFreezeAndStop(t *testing.T) {
	k := Start(t, t.TempDir())
	old := connect(t, k)
	within := func(limit time.Duration, c podresources.PodResourcesListerClient) codes.Code {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		_, err := c.List(ctx, &podresources.ListPodResourcesRequest{})
		return status.Code(err)
	}
	list := func(c podresources.PodResourcesListerClient) codes.Code { return within(patience, c) }
	if got := list(old); got != codes.OK {
		t.Fatal(got)
	}
	k.Freeze()
	for _, c := range []podresources.PodResourcesListerClient{old, connect(t, k)} {
		if got := within(200*time.Millisecond, c); got != codes.DeadlineExceeded {
			t.Errorf("frozen: %s", got)
		}
	}
	k.Thaw()
	if got := list(old); got != codes.OK {
		t.Errorf("thawed: %s", got)
	}
	k.Freeze()
	k.RequireStop(t)
	k.RequireStop(t)
	if _, err := os.Stat(k.Socket()); err != nil {
		t.Errorf("a killed kubelet leaves its socket: %v", err)
	}
	if got := list(connect(t, k)); got != codes.Unavailable {
		t.Errorf("stopped: %s", got)
	}
	if _, err := New(filepath.Join(t.TempDir(), "none", "kubelet.sock")); err == nil {
		t.Error("a socket without a directory")
	}
}
