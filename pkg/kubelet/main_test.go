package kubelet

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/multiplexer-cni/multiplexer/internal/kubelettest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is generous: machines under load are slow, or stand still for
// seconds, and nothing waits for it when things go well.
const (
	patience = time.Minute
	soon     = patience / 3 // for what nothing holds up
)

// shortDir is for sockets, whose paths have at most 107 bytes.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "kubelet")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if rerr := os.RemoveAll(dir); rerr != nil {
			t.Error(rerr)
		}
	})
	return dir
}

// start starts a kubelet and a client of it, and returns what the client logs.
func start(t *testing.T) (*kubelettest.Kubelet, *Resources, *bytes.Buffer) {
	t.Helper()
	k := kubelettest.Start(t, shortDir(t))
	r, log := client(t, k.Socket())
	return k, r, log
}

func client(t *testing.T, socket string) (*Resources, *bytes.Buffer) {
	t.Helper()
	log := &bytes.Buffer{}
	// A kubelet that answers is not given up, however slow the machine is.
	r := &Resources{Socket: socket, Log: slog.New(slog.NewTextHandler(log, nil)), most: time.Hour}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r, log
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// one is a container with devices of one resource.
func one(name, resource string, ids ...string) kubelettest.Container {
	c := kubelettest.Container{Name: name}
	for _, id := range ids {
		c.Devices = append(c.Devices, kubelettest.Device{Resource: resource, ID: id})
	}
	return c
}
