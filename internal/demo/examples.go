package main

import (
	"fmt"
	"os"

	"sigs.k8s.io/yaml"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// Where the examples are, seen from the repository's root, and where they go.
const (
	examplesCNI = "examples/cni"
	firstPod    = "examples/pod.yaml"
	secondPod   = "examples/pod-default-route.yaml"
	etcCNI      = "/etc/cni"
)

// podManifest is what a runtime learns of a pod.
type podManifest struct {
	file     string
	Metadata struct {
		Name        string            `json:"name"`
		Namespace   string            `json:"namespace"`
		Annotations map[string]string `json:"annotations"`
	} `json:"metadata"`
}

// String names the pod as kubectl does.
func (p *podManifest) String() string { return p.Metadata.Namespace + "/" + p.Metadata.Name }

// networks is the annotation that asks for networks.
func (p *podManifest) networks() string { return p.Metadata.Annotations[network.NetworksAnnotation] }

// readPod reads one of the example pods.
func readPod(file string) (*podManifest, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the example pod: %w; run `make demo` in the repository's root", err)
	}
	pod := &podManifest{file: file}
	if err = yaml.Unmarshal(raw, pod); err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	if pod.networks() == "" {
		return nil, fmt.Errorf("%s has no annotation %s: there is nothing to show", file, network.NetworksAnnotation)
	}
	return pod, nil
}

func readPods(files ...string) ([]*podManifest, error) {
	var pods []*podManifest
	for _, file := range files {
		pod, err := readPod(file)
		if err != nil {
			return nil, err
		}
		pods = append(pods, pod)
	}
	return pods, nil
}

// installExamples puts the example configurations where a node has them.
func installExamples() error {
	if err := os.CopyFS(etcCNI, os.DirFS(examplesCNI)); err != nil {
		return fmt.Errorf("copy %s to %s: %w", examplesCNI, etcCNI, err)
	}
	return nil
}
