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
	examplePod  = "examples/pod.yaml"
	etcCNI      = "/etc/cni"
)

// podManifest is what a runtime learns of a pod.
type podManifest struct {
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

// readPod reads examples/pod.yaml.
func readPod() (*podManifest, error) {
	raw, err := os.ReadFile(examplePod)
	if err != nil {
		return nil, fmt.Errorf("read the example pod: %w; run `make demo` in the repository's root", err)
	}
	pod := &podManifest{}
	if err = yaml.Unmarshal(raw, pod); err != nil {
		return nil, fmt.Errorf("read %s: %w", examplePod, err)
	}
	if pod.networks() == "" {
		return nil, fmt.Errorf("%s has no annotation %s: there is nothing to show", examplePod, network.NetworksAnnotation)
	}
	return pod, nil
}

// installExamples puts the example configurations where a node has them.
func installExamples() error {
	if err := os.CopyFS(etcCNI, os.DirFS(examplesCNI)); err != nil {
		return fmt.Errorf("copy %s to %s: %w", examplesCNI, etcCNI, err)
	}
	return nil
}
