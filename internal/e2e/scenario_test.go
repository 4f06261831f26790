package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	nadv1 "github.com/k8snetworkplumbingwg/network-attachment-definition-client/pkg/apis/k8s.cni.cncf.io/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/multiplexer-cni/multiplexer/internal/nodetest"
)

// scenario is a test with a namespace of its own.
type scenario struct {
	*testing.T
	namespace string
}

// begin makes the namespace; it is gone, with all its pods, when the test has
// ended.
func begin(t *testing.T, namespace string) *scenario {
	t.Helper()
	s := &scenario{T: t, namespace: namespace}
	s.do(http.MethodPost, "/api/v1/namespaces", map[string]any{"metadata": map[string]any{"name": namespace}}, nil)
	t.Cleanup(s.end)
	s.must(cluster.WaitNamespace(namespace))
	return s
}

func (s *scenario) end() {
	if s.Failed() {
		s.Logf("events:\n%s\nagents:\n%s", s.events(), agentLogs())
	}
	path := "/api/v1/namespaces/" + s.namespace
	s.do(http.MethodDelete, path, nil, nil)
	err := until(func() error {
		answer, err := cluster.Do(http.MethodGet, path, nil)
		if err == nil && answer.Code != http.StatusNotFound {
			err = fmt.Errorf("it is there: %s", answer.Body)
		}
		return err
	})
	if err != nil {
		s.Errorf("wait until namespace %s is gone: %v", s.namespace, err)
	}
}

func (s *scenario) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// do asks the API server and decodes its answer, unless into is nil.
func (s *scenario) do(method, path string, body, into any) {
	s.Helper()
	answer, err := cluster.Do(method, path, body)
	if err == nil {
		err = answer.Err()
	}
	if err == nil && into != nil {
		err = answer.Into(into)
	}
	if err != nil {
		s.Fatalf("%s %s: %v", method, path, err)
	}
}

// events are what the cluster says about the pods.
func (s *scenario) events() string {
	var list corev1.EventList
	s.do(http.MethodGet, "/api/v1/namespaces/"+s.namespace+"/events", nil, &list)
	var out strings.Builder
	for i := range list.Items {
		e := &list.Items[i]
		if e.Type != corev1.EventTypeNormal {
			fmt.Fprintf(&out, "%s: %s: %s\n", e.InvolvedObject.Name, e.Reason, e.Message)
		}
	}
	return out.String()
}

// agentLogs are the ends of what the agents wrote.
func agentLogs() string {
	var out strings.Builder
	for _, n := range nodes {
		lines, err := agentLog(n)
		fmt.Fprintf(&out, "%s: %v\n", n.Name, err)
		for _, line := range lines[max(0, len(lines)-40):] {
			fmt.Fprintln(&out, line.Text)
		}
	}
	return out.String()
}

func agentLog(n *nodetest.Node) ([]nodetest.Line, error) {
	var list corev1.PodList
	answer, err := cluster.Do(http.MethodGet, "/api/v1/namespaces/kube-system/pods?fieldSelector=spec.nodeName="+n.Name, nil)
	if err == nil {
		err = answer.Into(&list)
	}
	if err == nil && len(list.Items) != 1 {
		err = fmt.Errorf("%d pods in kube-system, want the agent's", len(list.Items))
	}
	if err != nil {
		return nil, err
	}
	return n.Log(&list.Items[0], "agent")
}

// server is a pod that answers, see `inside serve`, and that is ready when
// kubelet reaches it.
func server(namespace, name, networks string) *corev1.Pod {
	pod := nodetest.NewPod(namespace, name)
	pod.Labels = map[string]string{"app": name}
	if networks != "" {
		pod.Annotations[nadv1.NetworkAttachmentAnnot] = networks
	}
	pod.Spec.Containers[0].Args = []string{"serve"}
	pod.Spec.Containers[0].ReadinessProbe = &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(port)}},
		PeriodSeconds: 1,
	}
	return pod
}

// creates creates a pod on the node.
func (s *scenario) creates(n *nodetest.Node, pod *corev1.Pod) {
	s.Helper()
	pod.Spec.NodeSelector = map[string]string{corev1.LabelHostname: n.Name}
	s.must(cluster.CreatePod(pod))
}

// serves creates a server on the node and returns it when it is ready.
func (s *scenario) serves(n *nodetest.Node, name, networks string) live {
	s.Helper()
	s.creates(n, server(s.namespace, name, networks))
	return s.ready(name)
}

// ready returns the pod when it is ready and shows its networks.
func (s *scenario) ready(name string) live {
	s.Helper()
	pod, err := cluster.WaitPod(s.namespace, name, "is ready", func(p *corev1.Pod) (bool, string) {
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodReady {
				return c.Status == corev1.ConditionTrue && p.DeletionTimestamp == nil && shows(p), c.Reason + " " + c.Message
			}
		}
		return false, string(p.Status.Phase)
	})
	s.must(err)
	return s.live(pod)
}

// shows says whether a pod that asks for networks has its network-status. An
// API server that is slow gets it a moment later.
func shows(p *corev1.Pod) bool {
	return p.Annotations[nadv1.NetworkAttachmentAnnot] == "" || p.Annotations[nadv1.NetworkStatusAnnot] != ""
}

// selected are the pods of a label app that are ready, when there are so many.
func (s *scenario) selected(app string, count int) []live {
	s.Helper()
	var list corev1.PodList
	s.must(until(func() error {
		list = corev1.PodList{}
		s.do(http.MethodGet, "/api/v1/namespaces/"+s.namespace+"/pods?labelSelector=app="+app, nil, &list)
		if len(list.Items) != count {
			return fmt.Errorf("%d of %d pods", len(list.Items), count)
		}
		return nil
	}))
	var pods []live
	for i := range list.Items {
		pods = append(pods, s.ready(list.Items[i].Name))
	}
	return pods
}

// service makes one of both families for the pods of a label app, port 80 of
// TCP and UDP, and returns its addresses, IPv4 first.
func (s *scenario) service(app string) []string {
	s.Helper()
	both := corev1.IPFamilyPolicyRequireDualStack
	service := corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: app},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": app}, IPFamilyPolicy: &both, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol},
			Ports: []corev1.ServicePort{
				{Name: "tcp", Protocol: corev1.ProtocolTCP, Port: 80, TargetPort: intstr.FromInt32(port)},
				{Name: "udp", Protocol: corev1.ProtocolUDP, Port: 80, TargetPort: intstr.FromInt32(port)},
			},
		},
	}
	s.do(http.MethodPost, "/api/v1/namespaces/"+s.namespace+"/services", service, &service)
	return service.Spec.ClusterIPs
}

// live is a pod that runs.
type live struct {
	*corev1.Pod
	node     *nodetest.Node
	statuses []nadv1.NetworkStatus
}

func (s *scenario) live(pod *corev1.Pod) live {
	s.Helper()
	l := live{Pod: pod}
	for _, n := range nodes {
		if n.Name == pod.Spec.NodeName {
			l.node = n
		}
	}
	if text, ok := pod.Annotations[nadv1.NetworkStatusAnnot]; ok {
		s.must(json.Unmarshal([]byte(text), &l.statuses))
	}
	return l
}

// do runs f on a thread in the pod's network namespace.
func (l live) do(f func() error) error { return l.node.InPod(l.Pod, f) }

// status is what network-status says of a NIC.
func (l live) status(nic string) (nadv1.NetworkStatus, error) {
	for _, status := range l.statuses {
		if status.Interface == nic {
			return status, nil
		}
	}
	return nadv1.NetworkStatus{}, fmt.Errorf("network-status of %s has no %s: %+v", l.Name, nic, l.statuses)
}

// addresses are a NIC's, IPv4 first. eth0's are those that Kubernetes knows.
func (l live) addresses(nic string) []string {
	var list []string
	if nic == "eth0" {
		for _, ip := range l.Status.PodIPs {
			list = append(list, ip.IP)
		}
		return list
	}
	status, err := l.status(nic)
	if err != nil {
		return nil
	}
	return status.IPs
}
