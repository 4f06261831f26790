package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/multiplexer-cni/multiplexer/internal/benchtable"
	"github.com/multiplexer-cni/multiplexer/internal/kubelettest"
	"github.com/multiplexer-cni/multiplexer/internal/nettest"
	"github.com/multiplexer-cni/multiplexer/internal/sriovtest/cards"
	"github.com/multiplexer-cni/multiplexer/pkg/agent"
)

// cardsResource takes every VF of the trees here.
const (
	cardsResource = "bench.test/vf"
	cardsConfig   = `{"resourceList": [{"resourcePrefix": "bench.test", "resourceName": "vf", "selectors": {"drivers": ["iavf"]}}]}`
)

// tray is a tree of cards in memory, and a kubelet that takes devices.
type tray struct {
	dir, config string
	tree        *cards.Tree
	vfs         []string
	kubelet     *kubelettest.DeviceManager
}

// newTray has 512 VFs, or none.
func newTray(full bool) (t *tray, err error) {
	t = &tray{}
	// sysfs is in memory too.
	if t.dir, err = os.MkdirTemp("/dev/shm", "bench-cards-"); err != nil {
		return nil, err
	}
	t.config = filepath.Join(t.dir, "config.json")
	if err = os.WriteFile(t.config, []byte(cardsConfig), 0o600); err != nil {
		return nil, errors.Join(err, t.close())
	}
	t.tree = cards.New(filepath.Join(t.dir, "sys"))
	if full {
		for _, pf := range t.tree.Add512VFs() {
			t.vfs = append(t.vfs, t.tree.VFs(pf)...)
		}
	}
	return t, nil
}

func (t *tray) close() error {
	var err error
	if t.kubelet != nil {
		err = t.kubelet.Stop()
	}
	return errors.Join(err, os.RemoveAll(t.dir))
}

func (t *tray) flags() []string {
	return []string{"--sysfs", t.tree.Dir(), "--device-config", t.config}
}

// startAgent starts an agent that offers the VFs, and returns when kubelet has
// them all.
func (t *tray) startAgent(ctx context.Context, s *stand) (*daemon, error) {
	var err error
	if t.kubelet, err = kubelettest.NewDeviceManager(filepath.Join(t.dir, "kubelet")); err != nil {
		return nil, err
	}
	p, err := s.startAgent(ctx, agent.PublishMulti, append(t.flags(),
		"--kubelet-dir", filepath.Join(t.dir, "kubelet"), "--device-info-dir", filepath.Join(t.dir, "devinfo"), "--log-level", "error")...)
	if err != nil {
		return nil, err
	}
	if err = t.wait(len(t.vfs), 0); err != nil {
		p.kill()
		return nil, err
	}
	return p, nil
}

func (t *tray) wait(healthy, unhealthy int) error {
	return t.kubelet.WaitFor(cardsResource, func(r kubelettest.Resource) bool {
		return len(r.Healthy) == healthy && len(r.Unhealthy) == unhealthy
	}, time.Minute)
}

// measureDiscovery measures the CPU time of a whole look at 512 VFs, selection
// and explanation too, by the tool that does it once. The floor is the same
// tool on a node without a card.
func measureDiscovery(ctx context.Context, _ *stand, p benchtable.Pace) (rows []benchtable.Row, err error) {
	binary, err := nettest.AgentPath()
	if err != nil {
		return nil, err
	}
	full, err := newTray(true)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, full.close()) }()
	empty, err := newTray(false)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, empty.close()) }()
	look := func(t *tray) func() ([]float64, error) {
		return func() ([]float64, error) {
			cmd := exec.CommandContext(ctx, binary, append([]string{
				"devices", "-o", "json", "--state-dir", t.dir, "--pod-resources-socket", filepath.Join(t.dir, "none"),
			}, t.flags()...)...)
			cmd.Stderr = os.Stderr
			out, runErr := cmd.Output()
			if runErr == nil && strings.Count(string(out), `"`+cardsResource+`"`) < len(t.vfs) {
				runErr = fmt.Errorf("not all %d VFs are there", len(t.vfs))
			}
			if runErr != nil {
				return nil, runErr
			}
			used := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
			return []float64{float64(used) / float64(time.Millisecond)}, nil
		}
	}
	samples, err := p.Pairs(ctx, look(full), look(empty))
	if err != nil {
		return nil, err
	}
	row := benchtable.Row{
		Name: fmt.Sprintf("CPU time of a look at %d VFs; floor: at none", len(full.vfs)), Unit: "ms", Target: benchtable.AtMost(200), Absolute: true,
		Notes: []string{"The tool's start is in both."},
	}
	row.Ours, row.Floor, row.Ratio = samples.Value(0)
	return []benchtable.Row{row}, nil
}

// measureChange measures how long it takes from a VF's quarantine until kubelet
// has it as Unhealthy, among 512, and back.
func measureChange(ctx context.Context, s *stand, p benchtable.Pace) (rows []benchtable.Row, err error) {
	t, err := newTray(true)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	process, err := t.startAgent(ctx, s)
	if err != nil {
		return nil, err
	}
	defer process.kill()
	claim := filepath.Join(s.state(), "vf", t.vfs[0]+".json")
	var took []float64
	for end := time.Now().Add(p.Takes); len(took) < p.Least || time.Now().Before(end); {
		began := time.Now()
		if err = os.WriteFile(claim, []byte("damaged"), 0o600); err != nil {
			return nil, err
		}
		if err = t.wait(len(t.vfs)-1, 1); err != nil {
			return nil, err
		}
		took = append(took, float64(time.Since(began))/float64(time.Millisecond))
		if err = os.Remove(claim); err != nil {
			return nil, err
		}
		if err = t.wait(len(t.vfs), 0); err != nil {
			return nil, err
		}
	}
	return []benchtable.Row{{
		Name: fmt.Sprintf("from a VF's quarantine to kubelet's list, %d VFs", len(t.vfs)), Unit: "ms",
		Ours: benchtable.SpreadOf(took), Target: benchtable.AtMost(1000), Absolute: true,
		Notes: []string{"100 ms of it is a pause, in case more changes follow."},
	}}, nil
}

// measureIdle measures what the agent uses while nothing happens on a node
// with 512 VFs.
func measureIdle(ctx context.Context, s *stand, p benchtable.Pace) (rows []benchtable.Row, err error) {
	t, err := newTray(true)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	process, err := t.startAgent(ctx, s)
	if err != nil {
		return nil, err
	}
	defer process.kill()
	select { // for what it does when it starts
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(2 * time.Second):
	}
	before, err := cpuOf(process.cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(max(p.Takes, 3*time.Second)):
	}
	after, err := cpuOf(process.cmd.Process.Pid)
	share := 100 * float64(after-before) / float64(time.Since(began))
	return []benchtable.Row{{
		Name: fmt.Sprintf("CPU of an idle agent with %d VFs, of one core", len(t.vfs)), Unit: "%",
		Ours: benchtable.SpreadOf([]float64{share}), Target: benchtable.AtMost(0.5), Absolute: true,
		Notes: []string{fmt.Sprintf("Measured over %.0f s.", time.Since(began).Seconds())},
	}}, err
}

// cpuOf returns the CPU time that a process has used, as getrusage tells it the
// process itself, in steps of 10 ms.
func cpuOf(pid int) (time.Duration, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
	var ticks int
	for _, field := range fields[11:13] { // utime and stime, 14 and 15 of proc(5)
		n, convErr := strconv.Atoi(field)
		if convErr != nil {
			return 0, convErr
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}
