package k8sclient

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// again checks that a call ended in time with "try again later".
func again(t *testing.T, what string, limit time.Duration, began time.Time, err error) {
	t.Helper()
	if !errors.Is(err, network.Again) || errors.Is(err, ErrGone) || errors.Is(err, ErrNoDefinition) {
		t.Errorf("%s: %v, want kind %q", what, err, network.Again)
	}
	if took := time.Since(began); took > limit+askTime/2 {
		t.Errorf("%s took %s", what, took)
	}
}

// asksInVain asks for what no cache has.
func (r *running) asksInVain(t *testing.T, limit time.Duration) {
	t.Helper()
	began := time.Now()
	_, err := r.Definition(soon(t, limit), "nowhere", "a")
	again(t, "a definition", limit, began, err)
	began = time.Now()
	_, err = r.Pod(soon(t, limit), "nowhere", "a", "1")
	again(t, "a pod", limit, began, err)
	began = time.Now()
	err = r.PublishStatus(soon(t, limit), &Pod{Namespace: "nowhere", Name: "a", UID: "1"}, "[]")
	again(t, "a status", limit, began, err)
	_, err = r.CachedDefinition(t.Context(), "nowhere", "a")
	if r.Synced() != nil {
		again(t, "a cached definition", limit, time.Now(), err)
	}
	_, err = r.NamespaceNetworks("nowhere")
	again(t, "a namespace", limit, time.Now(), err)
}

func TestServerIsAbsentAtStart(t *testing.T) {
	shop := namespace(t, "absent")
	cluster.RequireApply(t, nad(shop, "a", "{}"))
	uid := newPod(t, shop, "a", ourNode, nil)
	stopAPI(t)
	r := start(t)
	eventually(t, func() error {
		err := r.Synced()
		for _, resource := range []string{resourceDefinitions, resourcePods, resourceNamespaces, resourceNodes, resourceServiceCIDRs} {
			if err == nil || !strings.Contains(err.Error(), resource+" (the API server does not answer") {
				return fmt.Errorf("%w does not name %s", err, resource)
			}
		}
		return nil
	})
	r.asksInVain(t, time.Second)
	if _, known := r.CachedPod(shop, "a", uid); known {
		t.Error("a pod is known before the API server is there")
	}
	r.Event(&Pod{Namespace: shop, Name: "a", UID: uid}, true, "Early", "sent when the API server is there")
	startAPI(t)
	eventually(t, r.Synced)
	if _, err := r.Definition(soon(t, time.Second), shop, "a"); err != nil {
		t.Error(err)
	}
	if err := r.hasPod(shop, "a", uid); err != nil {
		t.Error(err)
	}
	eventually(t, func() error {
		if n := len(eventsOf(t, shop)); n != 1 {
			return fmt.Errorf("%d events", n)
		}
		return nil
	})
	r.toldOnce(t)
}

// toldOnce checks that an outage is two lines of the log.
func (r *running) toldOnce(t *testing.T) {
	t.Helper()
	down, back := r.log.count("the API server does not answer"), r.log.count("the API server answers again")
	if down != 1 || back != 1 {
		t.Errorf("the log says %d times that the API server is down, and %d times that it is back", down, back)
	}
}

func TestServerIsLost(t *testing.T) {
	shop := namespace(t, "server-lost")
	cluster.RequireApply(t, nad(shop, "a", "{}"))
	uid := newPod(t, shop, "a", ourNode, nil)
	r := startSynced(t)
	stopAPI(t)
	r.asksInVain(t, time.Second)
	eventually(t, func() error { return more(int32(r.log.count("does not answer")), 0, "warnings") })
	for _, err := range []error{r.Synced(), r.hasPod(shop, "a", uid), r.hasDefinition(shop, "a", "{}")} {
		if err != nil {
			t.Errorf("what is known stays in use: %v", err)
		}
	}
	if _, err := r.Definition(soon(t, time.Second), shop, "a"); err != nil {
		t.Error(err)
	}
	if _, err := r.NamespaceNetworks(shop); err != nil {
		t.Error(err)
	}
	// New connections get another certificate.
	startAPI(t)
	if err := cluster.RotateCertificate(); err != nil {
		t.Fatal(err)
	}
	stopAPI(t)
	startAPI(t)
	if r.log.count("rbac.yaml") > 0 {
		t.Error("an API server that has just started does not know its roles, which is no fault of theirs")
	}
	cluster.RequireApply(t, nad(shop, "b", "{}"))
	second := newPod(t, shop, "b", ourNode, nil)
	eventually(t, func() error { return r.hasDefinition(shop, "b", "{}") })
	eventually(t, func() error { return r.hasPod(shop, "b", second) })
	if _, err := r.Definition(soon(t, 10*time.Second), shop, "none"); !errors.Is(err, ErrNoDefinition) {
		t.Errorf("after the rotation: %v", err)
	}
}

func TestServerIsFrozen(t *testing.T) {
	shop := namespace(t, "frozen")
	cluster.RequireApply(t, nad(shop, "a", "{}"))
	r := startSynced(t)
	if err := cluster.FreezeAPI(); err != nil {
		t.Fatal(err)
	}
	thaw := func() {
		if err := cluster.ThawAPI(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(thaw)
	r.asksInVain(t, 500*time.Millisecond)
	if _, err := r.Definition(soon(t, time.Second), shop, "a"); err != nil {
		t.Error(err)
	}
	r.Event(&Pod{Namespace: shop, Name: "a", UID: "a"}, true, "Frozen", "nobody reads it")
	r.stop()
	// One that never had an answer.
	late := start(t)
	late.asksInVain(t, 500*time.Millisecond)
	late.stop()
	third := start(t)
	thaw()
	eventually(t, third.Synced)
}

func TestTokenIsRenewed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	write := func(content string) {
		if err := errors.Join(os.WriteFile(file+".new", []byte(content), 0o600), os.Rename(file+".new", file)); err != nil {
			t.Fatal(err)
		}
	}
	write("expired")
	r := start(t, func(o *Options) { o.Config.BearerToken, o.Config.BearerTokenFile = "", file })
	eventually(t, func() error {
		if err := r.Synced(); err == nil || strings.Count(err.Error(), "the token is not accepted") != 5 {
			return fmt.Errorf("ready: %w", err)
		}
		return nil
	})
	if _, err := r.Definition(soon(t, 10*time.Second), "nowhere", "a"); !errors.Is(err, network.Again) || !strings.Contains(err.Error(), "token") {
		t.Errorf("with a token that expired: %v", err)
	}
	write(token)
	eventually(t, r.Synced)
}

func stopAPI(t *testing.T) {
	t.Helper()
	if err := cluster.StopAPI(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := cluster.Do(http.MethodGet, "/readyz", nil); err != nil {
			_ = cluster.StartAPI()
		}
	})
}

func startAPI(t *testing.T) {
	t.Helper()
	if err := cluster.StartAPI(); err != nil {
		t.Fatal(err)
	}
}
