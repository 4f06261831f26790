package killtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/multiplexer-cni/multiplexer/internal/nodetest"
)

// first and second are versions of multiplexer, and the tags of their images.
const (
	first  = "1.0.0"
	second = "2.0.0"
)

func buildImages(dir string) error {
	for _, version := range []string{first, second} {
		if err := nodetest.BuildProductImage(version, filepath.Join(dir, version+".tar")); err != nil {
			return err
		}
	}
	return nil
}

// render is what the chart makes with the values; args name templates.
func render(version string, args ...string) (string, error) {
	helm, err := nodetest.Helm()
	if err != nil {
		return "", err
	}
	options, err := json.Marshal(map[string]any{"timeout": limits().plugin})
	if err != nil {
		return "", err
	}
	if limits().plugin == nil {
		options = []byte("{}")
	}
	_, port, _ := strings.Cut(strings.TrimPrefix(cluster.URL(), "https://"), ":")
	cmd := exec.Command(helm, append([]string{
		"template", "multiplexer", "../../deploy/chart", "--namespace", "kube-system",
		"--set", "image.tag=" + version, "--set", "apiServer.host=127.0.0.1", "--set", "apiServer.port=" + port,
		"--set", "agent.extraArgs={--sweep=1s}", "--set-json", "cni.options=" + string(options),
	}, args...)...)
	home := os.TempDir()
	cmd.Env = []string{"HOME=" + home, "HELM_CONFIG_HOME=" + home, "HELM_CACHE_HOME=" + home, "HELM_DATA_HOME=" + home}
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err = cmd.Run(); err != nil {
		return "", fmt.Errorf("helm template: %w: %s", err, errOut.String())
	}
	return out.String(), nil
}

// applyShared applies what the chart has besides its DaemonSets.
func applyShared() error {
	all, err := render(first, "--no-hooks")
	if err != nil {
		return err
	}
	for _, document := range regexp.MustCompile(`(?m)^---\s*$`).Split(all, -1) {
		if strings.Contains(document, "\nkind: DaemonSet\n") {
			continue
		}
		if err = cluster.Apply(document); err != nil {
			return err
		}
	}
	return cluster.WaitAgentRights()
}

// The chart's DaemonSets.
const (
	agents      = "multiplexer"
	uninstaller = "multiplexer-uninstall"
)

// daemonSet is the chart's, for one node alone: each node is installed,
// upgraded and uninstalled for itself.
func (b *bed) daemonSet(kind, version string) (string, error) {
	template := map[string]string{agents: "templates/daemonset.yaml", uninstaller: "templates/uninstall.yaml"}[kind]
	document, err := render(version, "--show-only", template, "--set", `nodeSelector.kubernetes\.io/hostname=`+b.Name)
	if err != nil {
		return "", err
	}
	var object struct {
		APIVersion string         `json:"apiVersion"`
		Kind       string         `json:"kind"`
		Metadata   map[string]any `json:"metadata"`
		Spec       struct {
			Selector struct {
				MatchLabels map[string]string `json:"matchLabels"`
			} `json:"selector"`
			UpdateStrategy any `json:"updateStrategy"`
			Template       struct {
				Metadata struct {
					Labels      map[string]string `json:"labels"`
					Annotations map[string]string `json:"annotations"`
				} `json:"metadata"`
				Spec any `json:"spec"`
			} `json:"template"`
		} `json:"spec"`
	}
	if err = yaml.UnmarshalStrict([]byte(document), &object); err != nil {
		return "", fmt.Errorf("read what helm made of %s: %w", template, err)
	}
	object.Metadata["name"] = b.daemonSetName(kind)
	object.Spec.Selector.MatchLabels["node"] = b.Name
	object.Spec.Template.Metadata.Labels["node"] = b.Name
	content, err := json.Marshal(object)
	return string(content), err
}

func (b *bed) daemonSetName(kind string) string { return kind + "-" + b.Name }

func (b *bed) daemonSetPath(kind string) string {
	return "/apis/apps/v1/namespaces/kube-system/daemonsets/" + b.daemonSetName(kind)
}

// apply is `kubectl apply` of one of the chart's DaemonSets.
func (b *bed) apply(kind, version string) error {
	document, err := b.daemonSet(kind, version)
	if err != nil {
		return err
	}
	return cluster.Apply(document)
}
