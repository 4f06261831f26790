package deviceplugin

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/internal/sriovtest/cards"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// BenchmarkLook is one look at a node with 512 VFs, all of them listed.
func BenchmarkLook(b *testing.B) {
	dir := b.TempDir()
	tree := cards.New(filepath.Join(dir, "sys"))
	tree.Add512VFs()
	config := filepath.Join(dir, "config.json")
	text := `{"resourceList": [{"resourceName": "fast", "selectors": [{"drivers": ["iavf"], "rootDevices": ["0000:17:00.0", "0000:17:00.1", "0000:b1:00.0", "0000:b1:00.1"]}]}]}`
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	m := &Manager{
		Sys: sriov.Sysfs(tree.Dir()), Kernel: &fakeNode{sys: tree.Dir()}, Claims: sriov.NewClaims(filepath.Join(dir, "state"), ""),
		ConfigPath: config, Prefix: "intel.com", KubeletDir: dir, DeviceInfoDir: filepath.Join(dir, "devinfo"), CDIDir: filepath.Join(dir, "cdi"),
		Log: slog.New(slog.DiscardHandler), Now: time.Now,
	}
	ctx, cancel := context.WithCancel(b.Context())
	var running sync.WaitGroup
	m.pending.init()
	m.resume()
	m.look(ctx, &running, map[string]bool{causeStart: true})
	before := cpu(b)
	for b.Loop() {
		m.look(ctx, &running, map[string]bool{causeRescan: true})
	}
	b.ReportMetric(float64((cpu(b)-before).Milliseconds())/float64(b.N), "cpu-ms/op")
	if n := len(m.items); n != 512 {
		b.Errorf("%d devices", n)
	}
	cancel()
	running.Wait()
}

// cpu is the time that this process has used.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
