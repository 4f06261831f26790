package deploytest

import (
	"bytes"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/multiplexer-cni/multiplexer/internal/kubetest"
	"github.com/multiplexer-cni/multiplexer/internal/nettest"
)

const (
	agents      = "/apis/apps/v1/namespaces/kube-system/daemonsets/multiplexer"
	uninstaller = "/apis/apps/v1/namespaces/kube-system/daemonsets/multiplexer-uninstall"
	waiter      = "/apis/batch/v1/namespaces/kube-system/jobs/multiplexer-uninstall"
	kind        = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/network-attachment-definitions.k8s.cni.cncf.io"
	definition  = "/apis/k8s.cni.cncf.io/v1/namespaces/default/network-attachment-definitions/kept"
)

// exists asks the API server.
func exists(t *testing.T, path string) bool {
	t.Helper()
	answer, err := cluster.Do(http.MethodGet, path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return answer.Code == http.StatusOK
}

func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(3 * time.Minute); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// setStatus is what a controller would write.
func setStatus(t *testing.T, path, status string) {
	t.Helper()
	answer, err := cluster.Do(http.MethodPatch, path+"/status", `{"status":`+status+`}`)
	if err == nil {
		err = answer.Err()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// release runs helm against the cluster.
type release struct{ kubeconfig string }

func (r release) helm(t *testing.T, args ...string) (string, error) {
	t.Helper()
	out, errOut, err := runHelm(t, append(args, "--namespace", "kube-system", "--kubeconfig", r.kubeconfig)...)
	return out + errOut, err
}

// done is a helm that runs while the test plays the controllers.
type done struct {
	out string
	err error
}

func (r release) uninstall(t *testing.T) <-chan done {
	t.Helper()
	result := make(chan done, 1)
	var running sync.WaitGroup
	running.Go(func() {
		out, err := r.helm(t, "uninstall", "multiplexer", "--timeout", "5m")
		result <- done{out, err}
	})
	t.Cleanup(running.Wait)
	return result
}

func install(t *testing.T) release {
	t.Helper()
	r := release{cluster.RequireKubeconfig(t, cluster.Admin())}
	if out, err := r.helm(t, "install", "multiplexer", chart); err != nil {
		t.Fatalf("helm install: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := r.helm(t, "uninstall", "multiplexer", "--no-hooks", "--ignore-not-found"); err != nil {
			t.Errorf("helm uninstall --no-hooks: %v: %s", err, out)
		}
	})
	return r
}

// `helm uninstall` first takes multiplexer off the nodes, with the agents and
// their rights still there, and then deletes all but the kind.
func TestHelmUninstallWaitsForTheNodes(t *testing.T) {
	r := install(t)
	if !exists(t, kind) || !exists(t, agents) || exists(t, uninstaller) {
		t.Fatal("after the installation: want the kind and the agents, and nobody that uninstalls")
	}
	cluster.RequireApply(t, `{"apiVersion":"k8s.cni.cncf.io/v1","kind":"NetworkAttachmentDefinition","metadata":{"name":"kept"}}`)
	result := r.uninstall(t)
	until(t, "helm makes the Job", func() bool { return exists(t, waiter) })
	if !exists(t, uninstaller) || !exists(t, agents) {
		t.Error("while the nodes work: want the DaemonSet multiplexer-uninstall, and the agents still there")
	}
	awaitAsTheJob(t)
	select {
	case d := <-result:
		t.Fatalf("helm did not wait for the Job: %v: %s", d.err, d.out)
	default:
	}
	now := time.Now().UTC().Format(time.RFC3339)
	setStatus(t, waiter, `{"succeeded":1,"startTime":"`+now+`","completionTime":"`+now+`","conditions":[
		{"type":"SuccessCriteriaMet","status":"True","lastTransitionTime":"`+now+`"},{"type":"Complete","status":"True","lastTransitionTime":"`+now+`"}]}`)
	if d := <-result; d.err != nil {
		t.Fatalf("helm uninstall: %v: %s", d.err, d.out)
	}
	for _, gone := range []string{
		agents, uninstaller, waiter, "/api/v1/namespaces/kube-system/serviceaccounts/multiplexer", "/api/v1/namespaces/kube-system/serviceaccounts/multiplexer-uninstall",
		"/apis/rbac.authorization.k8s.io/v1/clusterroles/multiplexer", "/apis/rbac.authorization.k8s.io/v1/namespaces/kube-system/roles/multiplexer-uninstall",
	} {
		if exists(t, gone) {
			t.Errorf("%s is still there", gone)
		}
	}
	if !exists(t, kind) || !exists(t, definition) {
		t.Error("the kind or a definition is gone")
	}
}

// awaitAsTheJob does what the Job's container does, with the Job's rights.
func awaitAsTheJob(t *testing.T) {
	t.Helper()
	binary, err := nettest.AgentPath()
	if err != nil {
		t.Fatal(err)
	}
	// Until the API server knows of its right, it waits too.
	config := cluster.RequireKubeconfig(t, kubetest.Credential{Token: cluster.RequireToken(t, "kube-system", "multiplexer-uninstall")})
	var out lockedBuffer
	cmd := exec.CommandContext(t.Context(), binary, "await", "kube-system/multiplexer-uninstall", "--kubeconfig", config, "--every", "50ms")
	cmd.Stdout, cmd.Stderr = &out, &out
	if err = cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for _, step := range []struct{ says, then string }{
		{"no node has begun yet", `{"observedGeneration":1,"desiredNumberScheduled":2,"updatedNumberScheduled":2,"numberReady":1,"currentNumberScheduled":2,"numberMisscheduled":0}`},
		{"1 of 2 nodes are done", `{"numberReady":2}`},
	} {
		until(t, step.says, func() bool { return strings.Contains(out.String(), step.says) })
		select {
		case err = <-ended:
			t.Fatalf("it did not wait: %v: %s", err, out.String())
		default:
		}
		setStatus(t, uninstaller, step.then)
	}
	if err = <-ended; err != nil || !strings.Contains(out.String(), "all 2 nodes are done") {
		t.Errorf("%v: %s", err, out.String())
	}
}

// A node that cannot be uninstalled keeps all that its pods need.
func TestHelmUninstallThatFailsDeletesNothing(t *testing.T) {
	r := install(t)
	result := r.uninstall(t)
	until(t, "helm makes the Job", func() bool { return exists(t, waiter) })
	now := time.Now().UTC().Format(time.RFC3339)
	failed := fmt.Sprintf(`"status":"True","reason":"BackoffLimitExceeded","message":"pods had networks","lastTransitionTime":%q`, now)
	setStatus(t, waiter, `{"failed":4,"startTime":"`+now+`","conditions":[{"type":"FailureTarget",`+failed+`},{"type":"Failed",`+failed+`}]}`)
	d := <-result
	if d.err == nil {
		t.Fatalf("helm uninstall succeeded: %s", d.out)
	}
	if !exists(t, agents) || !exists(t, "/apis/rbac.authorization.k8s.io/v1/clusterroles/multiplexer") {
		t.Error("the agents, or their rights, are gone")
	}
	if exists(t, uninstaller) {
		t.Error("the DaemonSet multiplexer-uninstall goes on without anybody who waits for it")
	}
}

// Where the kind is there already, whoever made it keeps it.
func TestHelmLeavesAnotherOnesKindAlone(t *testing.T) {
	cluster.RequireApply(t, kubetest.DefinitionsCRD())
	version := func() string {
		answer, err := cluster.Do(http.MethodGet, kind, nil)
		var o struct {
			Metadata struct{ ResourceVersion string }
		}
		if err == nil {
			err = answer.Into(&o)
		}
		if err != nil {
			t.Fatal(err)
		}
		return o.Metadata.ResourceVersion
	}
	before := version()
	install(t)
	if after := version(); after != before {
		t.Errorf("version %s became %s", before, after)
	}
}

// lockedBuffer is written by a process and read by the test.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
