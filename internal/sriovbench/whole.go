package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/multiplexer-cni/multiplexer/internal/benchtable"
	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// measureWhole compares multiplexer that starts sriov as an executable with
// multiplexer that has it in its process: a pod with lo and the VF. So what is
// above the floor is what embedding saves.
func measureWhole(ctx context.Context, m *machine, p benchtable.Pace) ([]benchtable.Row, error) {
	if err := m.define(); err != nil {
		return nil, err
	}
	got, err := p.Pairs(ctx,
		func() ([]float64, error) { return m.wholeCycle(ctx, settings{"embedded": []string{}}) },
		func() ([]float64, error) { return m.wholeCycle(ctx, nil) })
	if err != nil {
		return nil, err
	}
	rows := rowsOf(got, "of multiplexer, sriov as an executable")
	rows[0].Notes = []string{fmt.Sprintf("Embedding sriov saves %s in ADD and DEL of multiplexer: %s in ADD, %s in DEL.",
		got.Difference(0).InUnit("ms"), got.Difference(1).InUnit("ms"), got.Difference(2).InUnit("ms"))}
	return rows, nil
}

// define writes the cluster network and the VF's.
func (m *machine) define() error {
	// One that costs next to nothing: a bridge would hide the difference.
	cluster, err := json.Marshal(settings{"cniVersion": cniVersion, "name": "cluster", "plugins": []any{settings{"type": "loopback"}}})
	if err != nil {
		return err
	}
	fast, err := m.network("vf", nil)
	if err != nil {
		return err
	}
	if err = os.MkdirAll(m.in("net.d"), 0o755); err != nil {
		return err
	}
	if err = os.WriteFile(m.in("cluster.conflist"), cluster, 0o644); err != nil {
		return err
	}
	return os.WriteFile(m.in("net.d/vf.conflist"), fast, 0o644)
}

// wholeCycle is one ADD and DEL of the pod.
func (m *machine) wholeCycle(ctx context.Context, more settings) ([]float64, error) {
	add, err := m.call(ctx, "ADD", more)
	if err != nil {
		return nil, err
	}
	if err = m.attached(nil); err != nil {
		return nil, fmt.Errorf("ADD: %w", err)
	}
	del, err := m.call(ctx, "DEL", more)
	if err != nil {
		return nil, err
	}
	if err = m.home(); err != nil {
		return nil, fmt.Errorf("DEL: %w", err)
	}
	return verbs(add, del), nil
}

// call calls multiplexer as a runtime does, and returns how long that took.
func (m *machine) call(ctx context.Context, verb string, more settings) (time.Duration, error) {
	conf := settings{
		"cniVersion": "1.1.0", "name": "multiplexer", "type": "multiplexer", "agentSocket": "",
		"clusterNetwork": m.in("cluster.conflist"), "confDir": m.in("net.d"), "stateDir": m.in("state"),
		"runtimeConfig": settings{"io.kubernetes.cri.pod-annotations": settings{"k8s.v1.cni.cncf.io/networks": "vf"}},
	}
	for key, value := range more {
		conf[key] = value
	}
	stdin, err := json.Marshal(conf)
	if err != nil {
		return 0, err
	}
	start := time.Now()
	outcome, err := m.node.CNI(ctx, nettest.CNICall{
		Bin: m.in("bin/multiplexer"), Command: verb, ContainerID: "whole", Netns: m.pod.Path(), IfName: "eth0", Stdin: stdin,
		// With sriov in either: found before or behind its fellows makes no odds.
		Path: []string{m.in("plugins"), m.in("executable")},
		Args: "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=whole",
	})
	took := time.Since(start)
	if err != nil {
		return 0, err
	}
	if e := outcome.Error(); e != nil {
		return 0, fmt.Errorf("%s: %s", verb, e)
	}
	return took, nil
}
