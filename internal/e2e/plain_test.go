package e2e

import (
	"fmt"
	"net/http"
	"testing"

	nadv1 "github.com/k8snetworkplumbingwg/network-attachment-definition-client/pkg/apis/k8s.cni.cncf.io/v1"
	"github.com/vishvananda/netlink"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// template is a server for a controller's pods, with half of them on each node.
func template(app, networks string) corev1.PodTemplateSpec {
	pod := server("", app, networks)
	pod.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{
		MaxSkew: 1, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.DoNotSchedule,
		LabelSelector: &metav1.LabelSelector{MatchLabels: pod.Labels},
	}}
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: pod.Labels, Annotations: pod.Annotations}, Spec: pod.Spec}
}

// Pods of a Deployment that ask for nothing are as without multiplexer: they
// reach each other and their Service from both nodes, and have no
// network-status and no rules.
func plainPods(t *testing.T) {
	s := begin(t, "plain")
	count := int32(4)
	s.do(http.MethodPost, "/apis/apps/v1/namespaces/plain/deployments", appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       appsv1.DeploymentSpec{Replicas: &count, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}, Template: template("web", "")},
	}, nil)
	service := s.service("web")
	pods := s.selected("web", int(count))
	for _, from := range pods {
		if text, ok := from.Annotations[nadv1.NetworkStatusAnnot]; ok {
			s.Errorf("%s has a network-status: %s", from.Name, text)
		}
		s.must(from.do(untouched))
		for _, to := range pods {
			if from.Name != to.Name {
				s.reaches(from.do, to.Status.PodIP, answer{to.Name, to.Status.PodIP, from.Status.PodIP})
			}
		}
		s.servedBy(from.do, "tcp", service[0], 80, pods...)
	}
	for _, n := range nodes {
		s.servedBy(n.Do, "udp", service[0], 80, pods...)
	}
}

// untouched looks at a pod with the cluster network alone.
func untouched() error {
	links, err := netlink.LinkList()
	if err != nil {
		return err
	}
	if len(links) != 2 || links[0].Attrs().Name != "lo" || links[1].Attrs().Name != "eth0" {
		return fmt.Errorf("the pod has %d links, the last one is %s", len(links), links[len(links)-1].Attrs().Name)
	}
	rules, err := netlink.RuleList(netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	for _, rule := range rules {
		if rule.Priority > 0 && rule.Priority < 32766 {
			return fmt.Errorf("the pod has a rule: %v", rule)
		}
	}
	return nil
}
