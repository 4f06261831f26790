package kubelet

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/multiplexer-cni/multiplexer/internal/kubelettest"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// wantError wants an error of kind Again, soon or once its limit has passed.
func wantError(t *testing.T, r *Resources, limit time.Duration, texts ...string) {
	t.Helper()
	began := time.Now()
	got, err := r.Devices(within(t, limit), "shop", "web", "u")
	took := time.Since(began)
	if !errors.Is(err, network.Again) {
		t.Fatalf("%v, error %v", got, err)
	}
	for _, text := range append(texts, r.Socket) {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%q does not say %q", err, text)
		}
	}
	if took > soon { // even where the limit is what ends it
		t.Errorf("it took %s", took)
	}
}

func TestKubeletIsNotThere(t *testing.T) {
	dir := shortDir(t)
	r, _ := client(t, filepath.Join(dir, "none.sock"))
	wantError(t, r, patience, "does not exist", "mount "+"kubelet's directory "+dir, "--root-dir")

	k := kubelettest.Start(t, dir)
	k.RequireStop(t)
	r, _ = client(t, k.Socket())
	wantError(t, r, patience, "nobody listens", "kubelet is down", dir)

	r, _ = client(t, filepath.Join(dir, "none.sock"))
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	wantError(t, r, patience, "closed")
}

// Each restart is survived by the next call, and a stopped kubelet does not
// hold up anybody.
func TestKubeletIsRestarted(t *testing.T) {
	k, r, _ := start(t)
	k.SetPod("shop", "web", one("c", "x/vf", "0000:01:00.1"))
	for range 5 {
		began := time.Now()
		got, err := r.Devices(within(t, patience), "shop", "web", "u")
		if err != nil || len(got) != 1 || time.Since(began) > soon {
			t.Fatalf("%v, %v after %s", got, err, time.Since(began))
		}
		k.RequireStop(t)
		for range 3 {
			wantError(t, r, patience, "nobody listens")
		}
		k.RequireRestart(t)
	}
}

func TestKubeletHangs(t *testing.T) {
	k, r, _ := start(t)
	k.SetPod("shop", "web", one("c", "x/vf", "0000:01:00.1"))
	k.Freeze()
	const limit = 200 * time.Millisecond
	wantError(t, r, limit, "no answer in time", "kubelet hangs") // a new connection
	k.Thaw()
	if _, err := r.Devices(within(t, patience), "shop", "web", "u"); err != nil {
		t.Fatal(err)
	}
	k.Freeze()
	wantError(t, r, limit, "no answer in time", "kubelet hangs") // the same

	k.RequireRestart(t)
	if _, err := r.Devices(within(t, patience), "shop", "web", "u"); err != nil {
		t.Fatal(err)
	}
}

// A request under way survives the restart of its kubelet.
func TestRestartUnderWay(t *testing.T) {
	k, r, _ := start(t)
	k.SetPod("shop", "web", one("c", "x/vf", "0000:01:00.1"))
	ctx := within(t, patience)
	if _, err := r.Devices(ctx, "shop", "web", "u"); err != nil {
		t.Fatal(err)
	}
	k.Freeze()
	result := make(chan error, 1)
	go func() {
		_, err := r.Devices(ctx, "shop", "web", "u")
		result <- err
	}()
	time.Sleep(100 * time.Millisecond)
	k.RequireRestart(t)
	// It is told at once that nobody listens, or finds the new one.
	if err := <-result; err != nil && !strings.Contains(err.Error(), "nobody listens") && !strings.Contains(err.Error(), "does not exist") {
		t.Error(err)
	}
}

func TestCloseUnderWay(t *testing.T) {
	k, r, _ := start(t)
	k.Freeze()
	result := make(chan error, 1)
	ctx := within(t, patience)
	go func() {
		_, err := r.Devices(ctx, "shop", "web", "u")
		result <- err
	}()
	time.Sleep(100 * time.Millisecond)
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if err := <-result; !errors.Is(err, network.Again) || !strings.Contains(err.Error(), "closed") {
		t.Error(err)
	}
}

func TestSizeOfTheAnswer(t *testing.T) {
	k, r, _ := start(t)
	k.SetGet(kubelettest.GetUnimplemented)
	k.SetPod("shop", "web", one("c", "x/vf", "0000:01:00.1"))
	k.SetPadding(15 << 20)
	if got, err := r.Devices(within(t, patience), "shop", "web", "u"); err != nil || len(got) != 1 {
		t.Errorf("15 MiB: %v, %v", got, err)
	}
	k.SetPadding(17 << 20)
	wantError(t, r, patience, "larger than max")
}

// serve answers every method of a gRPC server with an error.
func serve(t *testing.T, refuse func() error) (socket string) {
	t.Helper()
	socket = filepath.Join(shortDir(t), "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error { return refuse() }))
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if serr := <-ended; serr != nil {
			t.Error(serr)
		}
	})
	return socket
}

func TestRefusals(t *testing.T) {
	ask := func(code codes.Code, text string) error {
		ctx, cancel := context.WithCancel(within(t, patience))
		defer cancel()
		answers := 0
		r, _ := client(t, serve(t, func() error {
			// Who is turned away asks again until its time is up.
			if answers++; answers == 3 && code == codes.ResourceExhausted {
				cancel()
			}
			return status.Error(code, text)
		}))
		_, err := r.Devices(ctx, "shop", "web", "u")
		return err
	}
	for _, test := range []struct {
		code codes.Code
		text string
		kind network.Kind
		want string
	}{
		{codes.Unimplemented, "no such service", network.Unsupported, "Kubernetes 1.20"},
		{codes.Internal, "out of order", network.Again, "out of order"},
		{codes.Unavailable, "going away", network.Again, "going away"},
		{codes.ResourceExhausted, "rejected by rate limit", network.Again, "100 a second"},
	} {
		if err := ask(test.code, test.text); !errors.Is(err, test.kind) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", test.code, err)
		}
	}
}

// What is mounted in the socket's place when there was none on the host.
func TestSocketIsADirectory(t *testing.T) {
	socket := filepath.Join(shortDir(t), "kubelet.sock")
	if err := os.Mkdir(socket, 0o700); err != nil {
		t.Fatal(err)
	}
	r, _ := client(t, socket)
	wantError(t, r, patience, "mount its directory")
}
