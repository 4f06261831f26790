package nodetest

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/multiplexer-cni/multiplexer/internal/kubetest"
	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

// NewPod is a pod with one container, "app", that shows its environment and
// waits. It can be changed before CreatePod.
func NewPod(namespace, name string) *corev1.Pod {
	grace, no := int64(1), false
	return &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Annotations: map[string]string{}},
		Spec: corev1.PodSpec{
			TerminationGracePeriodSeconds: &grace,
			DNSPolicy:                     corev1.DNSDefault, // there is no cluster DNS
			AutomountServiceAccountToken:  &no,
			EnableServiceLinks:            &no,
			Containers:                    []corev1.Container{NewContainer("app")},
		},
	}
}

// NewContainer is a container that shows its environment and waits.
func NewContainer(name string) corev1.Container {
	return corev1.Container{Name: name, Image: Image, ImagePullPolicy: corev1.PullNever, Args: []string{"show"}}
}

func podPath(namespace, name string) string {
	return "/api/v1/namespaces/" + namespace + "/pods/" + name
}

// CreatePod creates the pod.
func (c *Cluster) CreatePod(pod *corev1.Pod) error {
	answer, err := c.Do(http.MethodPost, podPath(pod.Namespace, ""), pod)
	if err == nil {
		err = answer.Err()
	}
	if err != nil {
		return fmt.Errorf("create pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return nil
}

// GetPod reads a pod.
func (c *Cluster) GetPod(namespace, name string) (*corev1.Pod, error) {
	answer, err := c.Do(http.MethodGet, podPath(namespace, name), nil)
	if err != nil {
		return nil, err
	}
	pod := &corev1.Pod{}
	if err = answer.Into(pod); err != nil {
		return nil, fmt.Errorf("pod %s/%s: %w", namespace, name, err)
	}
	return pod, nil
}

// WaitPod returns the pod when the condition holds; state says how far it is.
func (c *Cluster) WaitPod(namespace, name, what string, condition func(*corev1.Pod) (ok bool, state string)) (*corev1.Pod, error) {
	var pod *corev1.Pod
	err := kubetest.Poll(patience, func() (bool, error) {
		var err error
		if pod, err = c.GetPod(namespace, name); err != nil {
			return false, err
		}
		ok, state := condition(pod)
		if ok {
			return true, nil
		}
		return false, errors.New(state)
	})
	if err != nil {
		return nil, fmt.Errorf("wait until pod %s/%s %s: %w\n%s", namespace, name, what, err, c.events(namespace, name))
	}
	return pod, nil
}

// WaitRunning returns the pod when all its containers run.
func (c *Cluster) WaitRunning(pod *corev1.Pod) (*corev1.Pod, error) {
	return c.WaitPod(pod.Namespace, pod.Name, "runs", func(p *corev1.Pod) (bool, string) {
		running := 0
		for i := range p.Status.ContainerStatuses {
			if p.Status.ContainerStatuses[i].State.Running != nil {
				running++
			}
		}
		return running == len(p.Spec.Containers) && p.Status.PodIP != "", fmt.Sprintf("%s, %d of %d containers run", p.Status.Phase, running, len(p.Spec.Containers))
	})
}

// DeletePod deletes a pod and returns when it is gone.
func (c *Cluster) DeletePod(namespace, name string) error {
	if err := c.BeginDelete(namespace, name); err != nil {
		return err
	}
	return c.WaitGone(namespace, name)
}

// BeginDelete deletes a pod and does not wait. One that is gone is no error.
func (c *Cluster) BeginDelete(namespace, name string) error {
	answer, err := c.Do(http.MethodDelete, podPath(namespace, name), nil)
	if err == nil && answer.Code != http.StatusNotFound {
		err = answer.Err()
	}
	if err != nil {
		return fmt.Errorf("delete pod %s/%s: %w", namespace, name, err)
	}
	return nil
}

// WaitGone returns when there is no such pod.
func (c *Cluster) WaitGone(namespace, name string) error {
	err := kubetest.Poll(patience, func() (bool, error) {
		answer, err := c.Do(http.MethodGet, podPath(namespace, name), nil)
		if err != nil {
			return false, err
		}
		if answer.Code != http.StatusNotFound {
			return false, fmt.Errorf("it is there: %s", answer.Body)
		}
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("wait until pod %s/%s is gone: %w", namespace, name, err)
	}
	return nil
}

// events are what the cluster says about a pod.
func (c *Cluster) events(namespace, name string) string {
	answer, err := c.Do(http.MethodGet, "/api/v1/namespaces/"+namespace+"/events?fieldSelector=involvedObject.name="+name, nil)
	var list corev1.EventList
	if err == nil {
		err = answer.Into(&list)
	}
	if err != nil {
		return "no events: " + err.Error()
	}
	var lines []string
	for i := range list.Items {
		e := &list.Items[i]
		lines = append(lines, fmt.Sprintf("%s %s %s: %s", e.Type, e.Source.Component+e.ReportingController, e.Reason, e.Message))
	}
	return strings.Join(lines, "\n")
}

// GetNode reads the node's object.
func (c *Cluster) GetNode(name string) (*corev1.Node, error) {
	answer, err := c.Do(http.MethodGet, "/api/v1/nodes/"+name, nil)
	if err != nil {
		return nil, err
	}
	node := &corev1.Node{}
	if err = answer.Into(node); err != nil {
		return nil, fmt.Errorf("node %s: %w", name, err)
	}
	return node, nil
}

// WaitNode returns the node's object when the condition holds.
func (c *Cluster) WaitNode(name, what string, condition func(*corev1.Node) (ok bool, state string)) (*corev1.Node, error) {
	var node *corev1.Node
	err := kubetest.Poll(patience, func() (bool, error) {
		var err error
		if node, err = c.GetNode(name); err != nil {
			return false, err
		}
		ok, state := condition(node)
		if ok {
			return true, nil
		}
		return false, errors.New(state)
	})
	if err != nil {
		return nil, fmt.Errorf("wait until node %s %s: %w", name, what, err)
	}
	return node, nil
}

// WaitReady returns when pods can be scheduled to the nodes: they are ready,
// and no taint says otherwise.
func (c *Cluster) WaitReady(nodes ...*Node) error {
	for _, n := range nodes {
		_, err := c.WaitNode(n.Name, "is ready", func(node *corev1.Node) (bool, string) {
			for _, condition := range node.Status.Conditions {
				if condition.Type == corev1.NodeReady {
					return condition.Status == corev1.ConditionTrue && len(node.Spec.Taints) == 0, fmt.Sprint(condition.Message, node.Spec.Taints)
				}
			}
			return false, "no condition"
		})
		if err != nil {
			return fmt.Errorf("%w\n%s", err, n.tails())
		}
	}
	return nil
}

// Line is a line that a container wrote.
type Line struct {
	Time time.Time // when the runtime got it
	Text string
}

// Log is what a container of a pod has written, in its last life.
func (n *Node) Log(pod *corev1.Pod, container string) ([]Line, error) {
	dir := n.Path(fmt.Sprintf("/var/log/pods/%s_%s_%s/%s", pod.Namespace, pod.Name, uid(pod), container))
	files, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("container %s of pod %s/%s has no log in %s", container, pod.Namespace, pod.Name, dir)
	}
	content, err := os.ReadFile(slices.Max(files))
	if err != nil {
		return nil, fmt.Errorf("read log: %w", err)
	}
	var lines []Line
	for text := range strings.Lines(string(content)) {
		// 2026-11-27T09:00:00.123456789Z stdout F text
		fields := strings.SplitN(strings.TrimRight(text, "\n"), " ", 4)
		if len(fields) < 4 {
			continue
		}
		at, timeErr := time.Parse(time.RFC3339Nano, fields[0])
		if timeErr != nil {
			return nil, fmt.Errorf("read log: %w", timeErr)
		}
		lines = append(lines, Line{Time: at, Text: fields[3]})
	}
	return lines, nil
}

// Environment is what a container of [NewPod] has shown of its environment,
// and when it began to.
func (n *Node) Environment(pod *corev1.Pod, container string) (variables map[string]string, began time.Time, err error) {
	var lines []Line
	err = kubetest.Poll(patience, func() (bool, error) {
		var logErr error
		lines, logErr = n.Log(pod, container)
		if logErr == nil && (len(lines) == 0 || lines[len(lines)-1].Text != "shown") {
			logErr = fmt.Errorf("it has shown %d lines", len(lines))
		}
		return logErr == nil, logErr
	})
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("environment of container %s of pod %s/%s: %w", container, pod.Namespace, pod.Name, err)
	}
	variables = map[string]string{}
	for _, line := range lines {
		if name, value, ok := strings.Cut(line.Text, "="); ok {
			variables[name] = value
		}
	}
	return variables, lines[0].Time, nil
}

// uid is what kubelet calls the pod on the node: a static pod's differs from
// that of its object.
func uid(pod *corev1.Pod) string {
	if hash := pod.Annotations["kubernetes.io/config.hash"]; hash != "" {
		return hash
	}
	return string(pod.UID)
}

// Pids are the processes of a pod, its sandbox's included, on this machine.
// Of a pod that is gone there are none.
func (n *Node) Pids(pod *corev1.Pod) ([]string, error) {
	roots, err := hierarchies()
	if err != nil {
		return nil, err
	}
	var pids []string
	// A process is in every hierarchy.
	err = filepath.WalkDir(filepath.Join(roots[0], n.cgroup()), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Name() != "cgroup.procs" || !strings.Contains(path, uid(pod)) {
			return ignoreGone(err)
		}
		content, err := os.ReadFile(path)
		pids = append(pids, strings.Fields(string(content))...)
		return ignoreGone(err)
	})
	return pids, err
}

// InPod runs f on a thread in the network namespace of a running pod.
func (n *Node) InPod(pod *corev1.Pod, f func() error) error {
	pids, err := n.Pids(pod)
	if err != nil {
		return err
	}
	if len(pids) == 0 {
		return fmt.Errorf("pod %s/%s has no process on %s", pod.Namespace, pod.Name, n.Name)
	}
	ns, err := netns.GetFromPath(filepath.Join("/proc", pids[0], "ns", "net"))
	if err != nil {
		return fmt.Errorf("open the namespace of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	defer func() { _ = ns.Close() }()
	return nettest.OnThread(func() error {
		if setErr := netns.Set(ns); setErr != nil {
			return fmt.Errorf("enter the namespace of pod %s/%s: %w", pod.Namespace, pod.Name, setErr)
		}
		return f()
	})
}

// ignoreGone ignores that a cgroup is gone, before or after its file was opened.
func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}
