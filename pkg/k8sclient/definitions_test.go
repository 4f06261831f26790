package k8sclient

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	nadv1 "github.com/k8snetworkplumbingwg/network-attachment-definition-client/pkg/apis/k8s.cni.cncf.io/v1"

	"github.com/multiplexer-cni/multiplexer/internal/kubetest"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

func nad(namespace, name, config string) string {
	return fmt.Sprintf(`
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata:
  name: %s
  namespace: %s
  annotations: {k8s.v1.cni.cncf.io/resourceName: intel.com/sriov, other: %q}
spec: {config: %q}
`, name, namespace, strings.Repeat("x", 1000), config)
}

// hasDefinition looks into the cache only.
func (r *running) hasDefinition(namespace, name, config string) error {
	found := cached[nadv1.NetworkAttachmentDefinition](r.defs, namespace, name)
	if found == nil || found.Spec.Config != config {
		return fmt.Errorf("in the cache is %+v, want the config %q", found, config)
	}
	return nil
}

func TestDefinitions(t *testing.T) {
	shop := namespace(t, "definitions")
	cluster.RequireApply(t, nad(shop, "a", `{"type":"bridge"}`))
	r := startSynced(t)
	got, err := r.Definition(soon(t, time.Second), shop, "a")
	want := Definition{Namespace: shop, Name: "a", Config: `{"type":"bridge"}`, ResourceName: "intel.com/sriov"}
	if err != nil || *got != want {
		t.Errorf("%+v, %v", got, err)
	}
	if n := asked(t, "get network-attachment-definitions definitions/a"); n != 0 {
		t.Errorf("what is in the cache was asked for %d times", n)
	}
	if known, cachedErr := r.CachedDefinition(t.Context(), shop, "a"); cachedErr != nil || *known != want {
		t.Errorf("from the cache: %+v, %v", known, cachedErr)
	}
	if _, err = r.CachedDefinition(t.Context(), shop, "unknown"); !errors.Is(err, ErrNoDefinition) || asked(t, "get network-attachment-definitions definitions/unknown") > 0 {
		t.Errorf("not in the cache: %v", err)
	}
	stored := cached[nadv1.NetworkAttachmentDefinition](r.defs, shop, "a")
	if len(stored.ManagedFields) > 0 || len(stored.Annotations) != 1 || stored.UID != "" {
		t.Errorf("not trimmed: %+v", stored)
	}
	if _, err = r.Definition(soon(t, 10*time.Second), shop, "none"); !errors.Is(err, ErrNoDefinition) || !strings.Contains(err.Error(), "definitions/none") {
		t.Errorf("a definition that does not exist: %v", err)
	}
	if _, err = r.Definition(soon(t, 10*time.Second), "nowhere", "a"); !errors.Is(err, ErrNoDefinition) {
		t.Errorf("a namespace that does not exist: %v", err)
	}

	// Not seen by the watch yet.
	r.streams.hold(true)
	cluster.RequireApply(t, nad(shop, "b", "{}"))
	got, err = r.Definition(soon(t, 10*time.Second), shop, "b")
	if err != nil || got.Name != "b" || got.ResourceName != "intel.com/sriov" {
		t.Errorf("just created: %+v, %v", got, err)
	}
	if r.hasDefinition(shop, "b", "{}") == nil {
		t.Error("the test did not keep it out of the cache")
	}
	r.streams.hold(false)
	eventually(t, func() error { return r.hasDefinition(shop, "b", "{}") })

	before := r.changed.Load()
	cluster.RequireApply(t, nad(shop, "a", `{"type":"macvlan"}`))
	eventually(t, func() error { return r.hasDefinition(shop, "a", `{"type":"macvlan"}`) })
	eventually(t, func() error { return more(r.changed.Load(), before, "calls of Changed") })
	did(t, http.MethodDelete, "/apis/k8s.cni.cncf.io/v1/namespaces/definitions/network-attachment-definitions/a", nil)
	eventually(t, func() error {
		if _, err = r.Definition(soon(t, 10*time.Second), shop, "a"); !errors.Is(err, ErrNoDefinition) {
			return fmt.Errorf("deleted: %w", err)
		}
		return nil
	})
}

func more(n, before int32, what string) error {
	if n <= before {
		return fmt.Errorf("%d %s, as before", n, what)
	}
	return nil
}

// A watch that is cut begins again where it was.
func TestWatchesAreCut(t *testing.T) {
	shop := namespace(t, "cut")
	r := startSynced(t)
	if n := r.streams.cutAll(); n != 5 {
		t.Errorf("%d watches, want 5", n)
	}
	cluster.RequireApply(t, nad(shop, "after", "{}"))
	eventually(t, func() error { return r.hasDefinition(shop, "after", "{}") })
	if r.log.count("level=WARN") > 0 {
		t.Error("a watch that ends is no warning")
	}
}

// The agent comes up before the kind is installed.
func TestKindIsMissing(t *testing.T) {
	shop := namespace(t, "kind")
	const crd = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/network-attachment-definitions.k8s.cni.cncf.io"
	did(t, http.MethodDelete, crd, nil)
	eventually(t, func() error {
		for _, path := range []string{crd, "/apis/k8s.cni.cncf.io/v1/network-attachment-definitions"} {
			answer, err := cluster.Do(http.MethodGet, path, nil)
			if err != nil || answer.Code != http.StatusNotFound {
				return fmt.Errorf("the kind is still there: %d, %w", answer.Code, err)
			}
		}
		return nil
	})
	r := start(t)
	eventually(t, func() error {
		err := r.Synced()
		if err == nil || !errors.Is(err, network.Again) || strings.Contains(err.Error(), "pods") ||
			!strings.Contains(err.Error(), "network-attachment-definitions (") || !strings.Contains(err.Error(), "CustomResourceDefinition") {
			return fmt.Errorf("ready: %w", err)
		}
		return nil
	})
	if _, err := r.Definition(soon(t, 10*time.Second), shop, "a"); !errors.Is(err, network.Again) || errors.Is(err, ErrNoDefinition) {
		t.Errorf("a definition of a kind that is not there: %v", err)
	}
	eventually(t, func() error { return more(int32(r.log.count("level=WARN")), 0, "warnings") })
	cluster.RequireApply(t, kubetest.DefinitionsCRD(), nad(shop, "a", "{}"))
	if got, err := r.Definition(soon(t, 30*time.Second), shop, "a"); err != nil || got.Config != "{}" {
		t.Errorf("asked while the cache does not know the kind: %v, %v", got, err)
	}
	eventually(t, r.Synced)
	eventually(t, func() error { return r.hasDefinition(shop, "a", "{}") })
	if refused, given := r.log.count("level=WARN"), r.log.count("does not refuse any more"); refused != 1 || given != 1 {
		t.Errorf("the log says %d times that the kind is missing, and %d times that it is there", refused, given)
	}
}
