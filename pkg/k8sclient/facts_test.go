package k8sclient

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

func TestNamespaces(t *testing.T) {
	plain := namespace(t, "plain")
	annotated := "apiVersion: v1\nkind: Namespace\nmetadata: {name: %s, annotations: {k8s.v1.cni.cncf.io/networks: %q, other: x}}\n"
	cluster.RequireApply(t, fmt.Sprintf(annotated, "with-b", "storage"), fmt.Sprintf(annotated, "with-a", "a,b"))
	r := startSynced(t)
	for name, want := range map[string]string{plain: "", "with-a": "a,b", "with-b": "storage"} {
		if got, err := r.NamespaceNetworks(name); err != nil || got != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if got := r.NamespacesWithNetworks(); !slices.Equal(got, []string{"with-a", "with-b"}) {
		t.Errorf("with networks: %v", got)
	}
	if _, err := r.NamespaceNetworks("not-seen"); !errors.Is(err, network.Again) {
		t.Errorf("a namespace that is not known: %v", err)
	}
	if stored := cached[metav1.PartialObjectMetadata](r.namespaces, "", plain); stored.Annotations != nil || stored.Labels != nil || stored.ManagedFields != nil {
		t.Errorf("not trimmed: %+v", stored)
	}
	before := r.changed.Load()
	cluster.RequireApply(t, fmt.Sprintf(annotated, plain, "late"))
	eventually(t, func() error {
		if got, err := r.NamespaceNetworks(plain); err != nil || got != "late" {
			return fmt.Errorf("%q, %w", got, err)
		}
		return more(r.changed.Load(), before, "calls of Changed")
	})

	r.stop()
	without := startSynced(t, func(o *Options) { o.Namespaces = false })
	if got, err := without.NamespaceNetworks("with-a"); err != nil || got != "" || without.NamespacesWithNetworks() != nil {
		t.Errorf("not asked for, and known: %q, %v", got, err)
	}
}

func TestFacts(t *testing.T) {
	status := func(version, condition string) {
		did(t, http.MethodPatch, "/api/v1/nodes/"+ourNode+"/status", fmt.Sprintf(`{"status": {
			"addresses": [{"type": "Hostname", "address": "node-a"}, {"type": "InternalIP", "address": "192.0.2.7"}, {"type": "InternalIP", "address": "2001:db8::7"},
				{"type": "ExternalIP", "address": "192.0.2.5"}],
			"nodeInfo": {"containerRuntimeVersion": %q},
			"conditions": [{"type": "Ready", "status": "True", "reason": %q}]}}`, version, condition))
	}
	status("containerd://2.1.0", "first")
	r := startSynced(t)
	want := Facts{
		PodCIDRs:     []netip.Prefix{netip.MustParsePrefix("10.244.3.0/24"), netip.MustParsePrefix("fd00:244:3::/64")},
		ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")},
		Addresses:    []netip.Addr{netip.MustParseAddr("192.0.2.5"), netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")},
		Runtime:      network.Containerd,
	}
	// The API server makes the first ServiceCIDR some time after its start.
	eventually(t, func() error { return sameFacts(r.Facts(), want) })

	eventually(t, func() error { return more(r.changed.Load(), 0, "calls of Changed") })
	// Changed is called some time after: for what was before, perhaps only now.
	const heartbeats = 5
	calls, before := 0, r.changed.Load()
	for i := range heartbeats {
		before = r.changed.Load()
		version := fmt.Sprintf("containerd://2.1.%d", i+1)
		status(version, fmt.Sprint("heartbeat ", i))
		eventually(t, func() error {
			if node := cached[corev1.Node](r.node, "", ourNode); node.Status.NodeInfo.ContainerRuntimeVersion != version {
				return errors.New("the node's status did not come")
			}
			return nil
		})
		time.Sleep(200 * time.Millisecond)
		if r.changed.Load() == before {
			break
		}
		calls++
	}
	if calls == heartbeats {
		t.Error("Changed was called for a node's heartbeat")
	}
	if node := cached[corev1.Node](r.node, "", ourNode); len(node.Status.Conditions) > 0 {
		t.Errorf("not trimmed: %+v", node)
	}

	status("cri-o://1.34.0", "third")
	cluster.RequireApply(t, "apiVersion: networking.k8s.io/v1\nkind: ServiceCIDR\nmetadata: {name: more}\nspec: {cidrs: [10.90.0.0/16]}\n")
	want.Runtime = network.CRIO
	want.ServiceCIDRs = append([]netip.Prefix{netip.MustParsePrefix("10.90.0.0/16")}, want.ServiceCIDRs...)
	eventually(t, func() error { return sameFacts(r.Facts(), want) })
	eventually(t, func() error { return more(r.changed.Load(), before, "calls of Changed") })
	r.Facts().PodCIDRs[0] = netip.Prefix{}
	if err := sameFacts(r.Facts(), want); err != nil {
		t.Errorf("a caller changed the facts: %v", err)
	}
}

func sameFacts(got, want Facts) error {
	if !reflect.DeepEqual(got, want) {
		return fmt.Errorf("facts %+v, want %+v", got, want)
	}
	return nil
}

// An API server before Kubernetes 1.33.
func TestWithoutServiceCIDRs(t *testing.T) {
	r := startSynced(t, func(o *Options) {
		o.Config.Wrap(func(next http.RoundTripper) http.RoundTripper {
			return &streams{next: next, open: map[*stream]bool{}, answer: func(request *http.Request) *http.Response {
				if !strings.HasSuffix(request.URL.Path, "/servicecidrs") {
					return nil
				}
				return &http.Response{StatusCode: http.StatusNotFound, Request: request, Header: http.Header{"Content-Type": {"text/plain"}},
					Body: io.NopCloser(strings.NewReader("404 page not found\n"))}
			}}
		})
	})
	facts := r.Facts()
	if len(facts.ServiceCIDRs) > 0 || len(facts.PodCIDRs) != 2 {
		t.Errorf("facts %+v", facts)
	}
	if n := r.log.count("the API server has no ServiceCIDRs"); n != 1 || r.log.count("level=WARN") > 0 {
		t.Errorf("logged %d times", n)
	}
}
