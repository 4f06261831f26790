package sriov_test

import (
	"os"
	"os/exec"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// The process's main thread is a thread like others to the runtime: it may be
// in a pod while another call looks for the node's devices, or moves one home.
func TestMainThreadInAPod(t *testing.T) {
	nettest.RequireRoot(t)
	const alone = "MULTIPLEXER_TEST_ALONE"
	if os.Getenv(alone) == "" { // other tests leave goroutines behind, and one may have the main thread
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), alone+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	const stray = "stray0"
	leave := onMainThread(t, func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: stray}, PeerName: "stray1"})
	})
	defer leave()
	for name, kernel := range map[string]sriov.Kernel{"Linux": sriov.Linux{}, "Resident": sriov.Resident{}} {
		host, err := kernel.Open("")
		if err != nil {
			t.Fatal(err)
		}
		links, err := host.Links()
		host.Close()
		if err != nil {
			t.Fatal(err)
		}
		for i := range links {
			if links[i].Name == stray {
				t.Errorf("%s: the node's namespace is the main thread's", name)
			}
		}
	}
}

// onMainThread runs enter on the process's main thread, which stays where that
// brought it until leave is called. Threads are taken, and kept, until the main
// one is among them.
func onMainThread(t *testing.T, enter func() error) (leave func()) {
	t.Helper()
	release, left := make(chan struct{}), make(chan error)
	for range 1000 {
		entered := make(chan error)
		isMain := make(chan bool)
		go func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			if unix.Gettid() != os.Getpid() {
				isMain <- false
				<-release
				return
			}
			isMain <- true
			home, err := os.Open("/proc/thread-self/ns/net")
			if err != nil {
				entered <- err
				return
			}
			defer home.Close()
			err = enter()
			entered <- err
			<-release
			left <- unix.Setns(int(home.Fd()), unix.CLONE_NEWNET)
		}()
		if !<-isMain {
			continue
		}
		if err := <-entered; err != nil {
			close(release)
			<-left
			t.Fatal(err)
		}
		return func() {
			close(release)
			if err := <-left; err != nil {
				t.Fatal(err)
			}
		}
	}
	close(release)
	t.Fatal("the main thread is never free")
	return nil
}
