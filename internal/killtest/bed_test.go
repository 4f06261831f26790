package killtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"

	nadv1 "github.com/k8snetworkplumbingwg/network-attachment-definition-client/pkg/apis/k8s.cni.cncf.io/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
	"github.com/multiplexer-cni/multiplexer/internal/nodetest"
)

const namespace = `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop"}}`

// clusterConf is the cluster network's, flannel's, and clusterNetwork its name.
const (
	clusterConf    = "/etc/cni/net.d/10-flannel.conflist"
	clusterNetwork = "cbr0"
)

// definition is the pods' second network, on the wire between the nodes. Its
// last plugin can hold a call.
func definition() string {
	config, err := json.Marshal(map[string]any{
		"cniVersion": "1.0.0", "name": "lan", "plugins": []any{
			map[string]any{
				"type": "macvlan", "master": "eth0", "mode": "bridge", "capabilities": map[string]bool{"ips": true},
				"ipam": map[string]any{"type": "host-local", "ranges": [][]any{{map[string]string{"subnet": "10.72.0.0/16"}}}},
			},
			map[string]any{"type": "gate"},
		},
	})
	if err != nil {
		panic(err)
	}
	object, err := json.Marshal(map[string]any{
		"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
		"metadata": map[string]any{"namespace": "shop", "name": "lan"}, "spec": map[string]any{"config": string(config)},
	})
	if err != nil {
		panic(err)
	}
	return string(object)
}

// bed is a node and what multiplexer and its pods have there.
type bed struct {
	*nodetest.Node
	number  int    // in its pods' addresses
	pods    int    // so far
	version string // of multiplexer; "" = it is not installed
	// multi has two networks, plain has one. They live from the installation
	// to the uninstallation.
	multi, plain *corev1.Pod
	conf         string // the cluster network's file
	empty        string // the snapshot before multiplexer came
	rebooted     bool   // in this row
	boot         string // the ID of the boot before
	calls        int    // of the plugin that wait
	// forgotten are containers that were attached through multiplexer and
	// deleted without it: their journals stay (docs/install.md).
	forgotten map[string]bool
}

func newBed(name string) (*bed, error) {
	n, err := cluster.AddNode(name, func(n *nodetest.Node) error {
		return errors.Join(n.ConfigureKubelet(limits().kubelet), n.InstallFlannel())
	})
	return &bed{Node: n, number: len(beds) + 1, forgotten: map[string]bool{}}, err
}

// prepare gives the node the gate and the images, and looks at it when it has
// had a pod of its cluster network.
func (b *bed) prepare(images string) error {
	gate, err := nettest.BuildProgram("MULTIPLEXER_KILLTEST_GATE", "./internal/killtest/gate")
	if err != nil {
		return err
	}
	if err = b.Copy(gate, "/opt/cni/bin/gate"); err != nil {
		return err
	}
	for _, version := range []string{first, second} {
		if err = b.ImportImage(filepath.Join(images, version+".tar")); err != nil {
			return err
		}
	}
	conf, err := b.Output("cat", clusterConf)
	if err != nil {
		return err
	}
	b.conf = string(conf)
	if err = cluster.WaitReady(b.Node); err != nil {
		return err
	}
	pod, err := b.runs(b.plainPod("before"))
	if err != nil {
		return err
	}
	if err = cluster.DeletePod(pod.Namespace, pod.Name); err != nil {
		return err
	}
	if err = b.clean(); err != nil {
		return err
	}
	b.empty, err = b.still()
	return err
}

// settleIn installs multiplexer on a node that nothing disturbs, with pods.
func (b *bed) settleIn() error {
	return inOrder(b.beginInstall, b.amidInstall, b.endInstall)
}

func (b *bed) bootID() (string, error) {
	id, err := b.Output("cat", "/proc/sys/kernel/random/boot_id")
	return string(bytes.TrimSpace(id)), err
}

func (b *bed) plainPod(name string) *corev1.Pod {
	b.pods++
	pod := nodetest.NewPod("shop", fmt.Sprintf("%s-%s-%d", name, b.Name, b.pods))
	pod.Spec.NodeSelector = map[string]string{"kubernetes.io/hostname": b.Name}
	return pod
}

// multiPod has an address of its own for each time, as neighbours remember
// the MAC of the last who had it.
func (b *bed) multiPod(name string) *corev1.Pod {
	pod := b.plainPod(name)
	pod.Annotations[nadv1.NetworkAttachmentAnnot] = fmt.Sprintf(`[{"name":"lan","ips":["10.72.%d.%d/16"]}]`, b.number, b.pods)
	return pod
}

func (b *bed) runs(pod *corev1.Pod) (*corev1.Pod, error) {
	if err := cluster.CreatePod(pod); err != nil {
		return nil, err
	}
	return cluster.WaitRunning(pod)
}

// gate is the file that shuts the gate for a pod's call.
func gate(verb string, pod *corev1.Pod) string { return "/run/killtest/shut/" + verb + "-" + pod.Name }

// shut lets the call wait in the middle of its work.
func (b *bed) shut(verb string, pod *corev1.Pod) error {
	if _, err := b.Output("mkdir", "-p", "/run/killtest/at"); err != nil {
		return err
	}
	return b.Write(gate(verb, pod), "")
}

// arrived returns when the call waits.
func (b *bed) arrived(verb string, pod *corev1.Pod) error {
	return b.until(verb+" of "+pod.Name+" is under way", func() error { return b.has("/run/killtest/at/" + verb + "-" + pod.Name) })
}

func (b *bed) open(verb string, pod *corev1.Pod) error {
	_, err := b.Output("rm", "-f", gate(verb, pod))
	return err
}

// begins creates a pod and returns in the middle of its ADD.
func (b *bed) begins(pod *corev1.Pod) error {
	return inOrder(
		func() error { return b.shut("ADD", pod) },
		func() error { return cluster.CreatePod(pod) },
		func() error { return b.arrived("ADD", pod) },
	)
}

// ends deletes a pod and returns in the middle of its DEL.
func (b *bed) ends(pod *corev1.Pod) error {
	return inOrder(
		func() error { return b.shut("DEL", pod) },
		func() error { return cluster.BeginDelete(pod.Namespace, pod.Name) },
		func() error { return b.arrived("DEL", pod) },
	)
}

// deleteDaemonSet deletes it and returns when its pods are gone.
func (b *bed) deleteDaemonSet(kind string) error {
	answer, err := cluster.Do(http.MethodDelete, b.daemonSetPath(kind), nil)
	if err == nil {
		err = answer.Err()
	}
	if err != nil {
		return fmt.Errorf("delete DaemonSet %s: %w", b.daemonSetName(kind), err)
	}
	return b.until("the pods of "+kind+" are gone", func() error {
		pods, listErr := b.daemons(kind)
		if listErr == nil && len(pods) > 0 {
			listErr = fmt.Errorf("there are %d", len(pods))
		}
		return listErr
	})
}

// daemons are the pods of one of the DaemonSets.
func (b *bed) daemons(kind string) ([]corev1.Pod, error) {
	component := map[string]string{agents: "agent", uninstaller: "uninstall"}[kind]
	answer, err := cluster.Do(http.MethodGet, "/api/v1/namespaces/kube-system/pods?labelSelector=node%3D"+b.Name+",app.kubernetes.io/component%3D"+component, nil)
	if err != nil {
		return nil, err
	}
	var list corev1.PodList
	err = answer.Into(&list)
	return list.Items, err
}
