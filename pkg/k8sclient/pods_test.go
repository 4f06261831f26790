package k8sclient

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// newPod makes a pod and returns its UID.
func newPod(t *testing.T, namespace, name, node string, annotations map[string]string) string {
	t.Helper()
	var made struct{ Metadata struct{ UID string } }
	answer := did(t, http.MethodPost, "/api/v1/namespaces/"+namespace+"/pods", map[string]any{
		"apiVersion": "v1", "kind": "Pod",
		"metadata": map[string]any{"name": name, "annotations": annotations},
		"spec":     map[string]any{"nodeName": node, "containers": []any{map[string]any{"name": "c", "image": "i"}}},
	})
	if err := answer.Into(&made); err != nil {
		t.Fatal(err)
	}
	return made.Metadata.UID
}

func deletePod(t *testing.T, namespace, name string) {
	t.Helper()
	did(t, http.MethodDelete, "/api/v1/namespaces/"+namespace+"/pods/"+name+"?gracePeriodSeconds=0", nil)
}

func (r *running) hasPod(namespace, name, uid string) error {
	if _, known := r.CachedPod(namespace, name, uid); !known {
		return fmt.Errorf("pod %s/%s is not known", namespace, name)
	}
	return nil
}

func TestPods(t *testing.T) {
	shop := namespace(t, "pods")
	uid := newPod(t, shop, "web-0", ourNode, map[string]string{
		network.NetworksAnnotation: "a", network.DefaultNetworkAnnotation: "d", "other": "x", network.StatusAnnotation: "[]"})
	newPod(t, shop, "elsewhere", "node-b", nil)
	r := startSynced(t)
	got, err := r.Pod(soon(t, time.Second), shop, "web-0", uid)
	if err != nil || got.UID != uid || got.Name != "web-0" || got.Namespace != shop || got.Status != Digest("[]") ||
		len(got.Annotations) != 2 || got.Annotations[network.NetworksAnnotation] != "a" || got.Annotations[network.DefaultNetworkAnnotation] != "d" {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err = r.Pod(soon(t, time.Second), shop, "web-0", ""); err != nil {
		t.Errorf("any UID: %v", err)
	}
	if n := asked(t, "get pods pods/web-0"); n != 0 {
		t.Errorf("what is in the cache was asked for %d times", n)
	}
	if known, has := r.CachedPod(shop, "web-0", uid); !has || known.UID != uid {
		t.Errorf("from the cache: %+v", known)
	}
	if known, has := r.CachedPod(shop, "web-0", "other"); has {
		t.Errorf("with another UID, from the cache: %+v", known)
	}
	stored := cached[metav1.PartialObjectMetadata](r.pods, shop, "web-0")
	if len(stored.ManagedFields) > 0 || len(stored.Annotations) != 3 || strings.Contains(fmt.Sprint(stored.Annotations), "[]") {
		t.Errorf("not trimmed: %+v", stored)
	}
	if _, known := r.CachedPod(shop, "elsewhere", ""); known {
		t.Error("a pod of another node is in the cache")
	}
	_, err = r.Pod(soon(t, 10*time.Second), shop, "none", "1")
	if !errors.Is(err, ErrGone) || !strings.Contains(err.Error(), "pods/none") {
		t.Errorf("a pod that never was: %v", err)
	}
}

// A StatefulSet's next pod has the name of the one before.
func TestPodIsReplaced(t *testing.T) {
	shop := namespace(t, "replaced")
	old := newPod(t, shop, "db-0", ourNode, nil)
	r := startSynced(t)
	eventually(t, func() error { return r.hasPod(shop, "db-0", old) })
	r.streams.hold(true)
	deletePod(t, shop, "db-0")
	uid := newPod(t, shop, "db-0", ourNode, map[string]string{network.NetworksAnnotation: "new", network.StatusAnnotation: "[1]"})
	// The cache has the old one.
	got, err := r.Pod(soon(t, 10*time.Second), shop, "db-0", uid)
	if err != nil || got.UID != uid || got.Annotations[network.NetworksAnnotation] != "new" || got.Status != Digest("[1]") {
		t.Errorf("the new pod: %+v, %v", got, err)
	}
	if _, known := r.CachedPod(shop, "db-0", uid); known {
		t.Error("the test did not keep the new pod out of the cache")
	}
	before := r.gone.Load()
	r.streams.hold(false)
	eventually(t, func() error { return r.hasPod(shop, "db-0", uid) })
	eventually(t, func() error { return more(r.gone.Load(), before, "calls of PodGone") })
	if _, err = r.Pod(soon(t, 10*time.Second), shop, "db-0", old); !errors.Is(err, ErrGone) {
		t.Errorf("the old pod: %v", err)
	}
	if _, known := r.CachedPod(shop, "db-0", old); known {
		t.Error("the old pod is known")
	}
	deletePod(t, shop, "db-0")
	eventually(t, func() error {
		if _, known := r.CachedPod(shop, "db-0", uid); known {
			return errors.New("a deleted pod is known")
		}
		return nil
	})
	if _, err = r.Pod(soon(t, 10*time.Second), shop, "db-0", uid); !errors.Is(err, ErrGone) {
		t.Errorf("a deleted pod: %v", err)
	}
}

// Of a static pod, CNI knows the hash of its file only.
func TestStaticPod(t *testing.T) {
	shop := namespace(t, "static")
	uid := newPod(t, shop, "etcd-node-a", ourNode, map[string]string{configMirror: "hash1", configHash: "hash1", "kubernetes.io/config.source": "file"})
	r := startSynced(t)
	got, err := r.Pod(soon(t, time.Second), shop, "etcd-node-a", "hash1")
	if err != nil || got.UID != uid || len(got.Annotations) != 0 {
		t.Errorf("by the hash: %+v, %v", got, err)
	}
	if err = r.hasPod(shop, "etcd-node-a", "hash1"); err != nil {
		t.Error(err)
	}
	if _, err = r.Pod(soon(t, 10*time.Second), shop, "etcd-node-a", "hash2"); !errors.Is(err, ErrGone) {
		t.Errorf("by another hash: %v", err)
	}
}

func TestPublish(t *testing.T) {
	shop := namespace(t, "publish")
	uid := newPod(t, shop, "a", ourNode, nil)
	r := startSynced(t)
	pod, err := r.Pod(soon(t, 10*time.Second), shop, "a", uid)
	if err != nil || pod.Status != "" {
		t.Fatal(pod, err)
	}
	value := `[{"name":"eth0","ips":["10.0.0.1"]}]`
	if err = r.PublishStatus(soon(t, 10*time.Second), pod, value); err != nil {
		t.Fatal(err)
	}
	if n := asked(t, "patch pods/status publish/a 200"); n != 1 {
		t.Errorf("%d requests, want one", n)
	}
	var shown metav1.PartialObjectMetadata
	if err = did(t, http.MethodGet, "/api/v1/namespaces/publish/pods/a", nil).Into(&shown); err != nil {
		t.Fatal(err)
	}
	if shown.Annotations[network.StatusAnnotation] != value || !managedBy(shown, component) {
		t.Errorf("shown: %v, by %v", shown.Annotations, shown.ManagedFields)
	}
	eventually(t, func() error {
		if pod, err = r.Pod(soon(t, 10*time.Second), shop, "a", uid); err != nil || pod.Status != Digest(value) {
			return fmt.Errorf("status %q, %w", pod.Status, err)
		}
		return nil
	})

	other := *pod
	other.UID = "11111111-2222-3333-4444-555555555555"
	if err = r.PublishStatus(soon(t, 10*time.Second), &other, "wrong"); !errors.Is(err, ErrGone) {
		t.Errorf("another UID: %v", err)
	}
	other.UID = ""
	if err = r.PublishStatus(soon(t, 10*time.Second), &other, "wrong"); !errors.Is(err, network.Invalid) {
		t.Errorf("no UID: %v", err)
	}
	if err = r.PublishStatus(soon(t, 10*time.Second), pod, strings.Repeat("x", 300_000)); !errors.Is(err, network.Invalid) {
		t.Errorf("more than annotations may have: %v", err)
	}
	if err = did(t, http.MethodGet, "/api/v1/namespaces/publish/pods/a", nil).Into(&shown); err != nil || shown.Annotations[network.StatusAnnotation] != value {
		t.Errorf("shown: %v, %v", shown.Annotations, err)
	}
	deletePod(t, shop, "a")
	if err = r.PublishStatus(soon(t, 10*time.Second), pod, value); !errors.Is(err, ErrGone) {
		t.Errorf("a deleted pod: %v", err)
	}
}

func managedBy(object metav1.PartialObjectMetadata, manager string) bool {
	for _, entry := range object.ManagedFields {
		if entry.Manager == manager && entry.Subresource == "status" {
			return true
		}
	}
	return false
}
