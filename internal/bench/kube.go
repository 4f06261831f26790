package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/multiplexer-cni/multiplexer/internal/agenttest"
	"github.com/multiplexer-cni/multiplexer/internal/kubetest"
	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// What the API server has: the size that the agent's memory is about.
const (
	definitionsInAll = 1000
	podsOfTheNode    = 100
	namespaceOfAll   = "default"
)

// kube is a cluster whose one node is the stand's, and its pods.
type kube struct {
	*kubetest.Cluster
	kubeconfig string // of the agent's service account
	pods       []*pod // without a namespace until they are used
}

// findKube says at once what is missing, not after minutes of other figures.
func findKube() error {
	dir, err := kubetest.BinariesDir()
	if err != nil {
		return fmt.Errorf("the agent's figures need an API server: %w", err)
	}
	for _, name := range []string{"etcd", "kube-apiserver"} {
		if _, err = os.Stat(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("the agent's figures need an API server: %w; `make kube` builds it, and MULTIPLEXER_KUBE names its directory", err)
		}
	}
	return nil
}

// startKube starts the cluster when it is first asked for.
func (s *stand) startKube() (*kube, error) {
	if s.kube != nil {
		return s.kube, nil
	}
	cluster, err := kubetest.New()
	if err != nil {
		return nil, err
	}
	s.kube = &kube{Cluster: cluster, kubeconfig: filepath.Join(s.dir, "kubeconfig")}
	if err = agenttest.Prepare(cluster, "deploy"); err != nil {
		return nil, fmt.Errorf("prepare the cluster (from the repository's root): %w", err)
	}
	token, err := cluster.Token("kube-system", "multiplexer")
	if err != nil {
		return nil, err
	}
	if err = cluster.Kubeconfig(s.kube.kubeconfig, kubetest.Credential{Token: token}); err != nil {
		return nil, err
	}
	if err = s.publishNetworks(); err != nil {
		return nil, err
	}
	return s.kube, s.kube.createPods()
}

func (k *kube) close() error {
	var failed []error
	for _, p := range k.pods {
		if p.NS != nil {
			failed = append(failed, p.Close())
		}
	}
	return errors.Join(append(failed, k.Close())...)
}

// publishNetworks makes the stand's networks definitions, and more that
// nobody asks for.
func (s *stand) publishNetworks() error {
	for _, list := range s.networks[1:] {
		if err := s.kube.define(list.Name, string(list.Bytes)); err != nil {
			return err
		}
	}
	for i := range definitionsInAll - mostNetworks {
		if err := s.kube.define(unusedNetwork(i)); err != nil {
			return err
		}
	}
	return nil
}

// unusedNetwork is one of about 600 bytes, as a definition with a few ranges
// and a plugin or two in its chain has.
func unusedNetwork(i int) (name, config string) {
	name = fmt.Sprintf("unused-%03d", i)
	var ranges []string
	for r := range 4 {
		ranges = append(ranges, fmt.Sprintf(`[{"subnet":"10.%d.%d.0/24","rangeStart":"10.%[1]d.%[2]d.10","rangeEnd":"10.%[1]d.%[2]d.250"}]`, r, i%256))
	}
	return name, fmt.Sprintf(`{"cniVersion":%q,"name":%q,"plugins":[{"type":"macvlan","master":"eth%d","mode":"bridge","mtu":1500,
"ipam":{"type":"host-local","ranges":[%s],"routes":[{"dst":"192.168.0.0/16"}]}},{"type":"tuning","sysctl":{"net.ipv4.conf.IFNAME.arp_notify":"1"}}]}`,
		cniVersion, name, i%8, strings.Join(ranges, ","))
}

func (k *kube) define(name, config string) error {
	answer, err := k.Do(http.MethodPost, "/apis/k8s.cni.cncf.io/v1/namespaces/"+namespaceOfAll+"/network-attachment-definitions", map[string]any{
		"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
		"metadata": map[string]any{"name": name}, "spec": map[string]any{"config": config},
	})
	if err == nil {
		err = answer.Err()
	}
	if err != nil {
		return fmt.Errorf("create the definition %s: %w", name, err)
	}
	return nil
}

// createPods creates the node's pods, whose labels and annotations are some
// of those that pods have.
func (k *kube) createPods() error {
	for i := range podsOfTheNode {
		name := fmt.Sprintf("bench-%02d", i)
		answer, err := k.Do(http.MethodPost, "/api/v1/namespaces/"+namespaceOfAll+"/pods", map[string]any{
			"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{
				"name": name, "labels": map[string]string{"app": "bench", "pod-template-hash": "5d9f7c9b6c"},
				"annotations": map[string]string{networksOfAPod: "bench1,bench2", "prometheus.io/scrape": "true"},
			},
			"spec": map[string]any{
				"nodeName": agenttest.Name, "automountServiceAccountToken": false,
				"containers": []any{map[string]any{"name": "app", "image": "none"}},
			},
		})
		if err != nil {
			return fmt.Errorf("create the pod %s: %w", name, err)
		}
		var created struct{ Metadata struct{ UID string } }
		if err = answer.Into(&created); err != nil {
			return fmt.Errorf("create the pod %s: %w", name, err)
		}
		k.pods = append(k.pods, &pod{container: name, name: name, uid: created.Metadata.UID})
	}
	return nil
}

// pod returns the n-th pod with its namespace.
func (k *kube) pod(n int) (*pod, error) {
	p := k.pods[n]
	if p.NS != nil {
		return p, nil
	}
	var err error
	if p.NS, err = nettest.NewNS("pod-"); err != nil {
		return nil, fmt.Errorf("make a pod: %w", err)
	}
	return p, nil
}

// showsStatus makes sure that the agent told the API server of a network.
func (k *kube) showsStatus(p *pod, network string) error {
	answer, err := k.Do(http.MethodGet, "/api/v1/namespaces/"+namespaceOfAll+"/pods/"+p.name, nil)
	if err != nil {
		return err
	}
	var shown struct {
		Metadata struct{ Annotations map[string]string }
	}
	if err = answer.Into(&shown); err != nil {
		return err
	}
	if status := shown.Metadata.Annotations[statusOfAPod]; !strings.Contains(status, namespaceOfAll+"/"+network) {
		return fmt.Errorf("the pod %s has network-status %q, without %s", p.name, status, network)
	}
	return nil
}
