package kubetest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// envOwner makes this test binary a process that starts a cluster and waits.
const envOwner = "MULTIPLEXER_KUBETEST_OWNER"

func TestMain(m *testing.M) {
	if os.Getenv(envOwner) == "" {
		os.Exit(m.Run())
	}
	c, err := New()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(c.dir.Path, c.etcd.cmd.Process.Pid, c.api.cmd.Process.Pid)
	select {}
}

const shop = `
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: {name: storage, namespace: shop}
spec:
  config: '{"cniVersion": "1.0.0", "name": "storage", "type": "bridge"}'
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader, namespace: shop}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader, namespace: shop}
rules:
- apiGroups: [k8s.cni.cncf.io]
  resources: [network-attachment-definitions]
  verbs: [get, list, watch]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader, namespace: shop}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects:
- {kind: ServiceAccount, name: reader, namespace: shop}
`

const (
	reader  = "system:serviceaccount:shop:reader"
	nads    = "/apis/k8s.cni.cncf.io/v1/namespaces/shop/network-attachment-definitions"
	storage = nads + "/storage"
)

// TestCluster is one cluster's life: the subtests need the ones before.
func TestCluster(t *testing.T) {
	began := time.Now()
	c := Start(t)
	t.Logf("started in %s; etcd %s, kube-apiserver %s", time.Since(began).Round(time.Millisecond), rss(t, c.etcd), rss(t, c.api))
	c.RequireApply(t, DefinitionsCRD(), shop)
	allowed := Access{User: reader, Verb: "list", Group: "k8s.cni.cncf.io", Resource: "network-attachment-definitions", Namespace: "shop"}
	if err := c.WaitAllowed(allowed); err != nil {
		t.Fatal(err)
	}
	account := Credential{Token: c.RequireToken(t, "shop", "reader")}

	t.Run("rights", func(t *testing.T) { testRights(t, c, account) })
	t.Run("audit log", func(t *testing.T) { testAuditLog(t, c) })
	t.Run("client certificate", func(t *testing.T) { testClientCertificate(t, c) })
	t.Run("kubeconfig", func(t *testing.T) { testKubeconfig(t, c) })
	t.Run("apply changes", func(t *testing.T) { testApplyChanges(t, c) })
	t.Run("stop and start", func(t *testing.T) { testStopAndStart(t, c, account) })
	t.Run("freeze", func(t *testing.T) { testFreeze(t, c) })
	t.Run("rotate", func(t *testing.T) { testRotate(t, c) })
	t.Logf("at the end: etcd %s, kube-apiserver %s", rss(t, c.etcd), rss(t, c.api))

	pids := []int{c.etcd.cmd.Process.Pid, c.api.cmd.Process.Pid}
	if err := errors.Join(c.api.stop(), c.etcd.stop()); err != nil {
		t.Fatal(err)
	}
	requireGone(t, pids)
}

func testRights(t *testing.T, c *Cluster, account Credential) {
	client := c.RequireClient(t, account)
	var nad struct{ Spec struct{ Config string } }
	if err := client.RequireDo(t, http.StatusOK, http.MethodGet, storage, nil).Into(&nad); err != nil {
		t.Fatal(err)
	}
	if !json.Valid([]byte(nad.Spec.Config)) || !strings.Contains(nad.Spec.Config, "bridge") {
		t.Errorf("spec.config is %q", nad.Spec.Config)
	}
	client.RequireDo(t, http.StatusOK, http.MethodGet, nads, nil)
	// It ends by itself.
	client.RequireDo(t, http.StatusOK, http.MethodGet, nads+"?watch=1&timeoutSeconds=1", nil)
	refused := client.RequireDo(t, http.StatusForbidden, http.MethodDelete, storage, nil)
	if err := refused.Err(); err == nil || !strings.Contains(err.Error(), reader) {
		t.Errorf("the refusal is %v", err)
	}
	client.RequireDo(t, http.StatusForbidden, http.MethodGet, "/api/v1/nodes", nil)
	nobody := c.RequireClient(t, Credential{Token: "guessed"})
	nobody.RequireDo(t, http.StatusUnauthorized, http.MethodGet, storage, nil)
}

func testAuditLog(t *testing.T, c *Cluster) {
	var got []string
	for _, entry := range c.RequireAuditLog(t, reader) {
		if !entry.Ended || time.Since(entry.Received) > time.Hour || entry.UserAgent != "kubetest" {
			t.Errorf("entry %+v", entry)
		}
		got = append(got, entry.String())
	}
	want := []string{
		"get network-attachment-definitions shop/storage 200",
		"list network-attachment-definitions shop 200",
		"watch network-attachment-definitions shop 200",
		"delete network-attachment-definitions shop/storage 403",
		"list nodes 403",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func testClientCertificate(t *testing.T, c *Cluster) {
	cred, err := c.User("jane", "system:masters")
	if err != nil {
		t.Fatal(err)
	}
	c.RequireClient(t, cred).RequireDo(t, http.StatusOK, http.MethodGet, "/api/v1/nodes", nil)
	if got := len(c.RequireAuditLog(t, "jane")); got != 1 {
		t.Errorf("%d requests of jane instead of 1", got)
	}
}

func testKubeconfig(t *testing.T, c *Cluster) {
	path := filepath.Join(t.TempDir(), "admin")
	if err := c.AdminKubeconfig(path); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{c.URL(), c.CAFile(), c.Admin().Token} {
		if !strings.Contains(string(content), part) {
			t.Errorf("%s is not in the kubeconfig:\n%s", part, content)
		}
	}
}

func testApplyChanges(t *testing.T, c *Cluster) {
	changed := strings.Replace(shop, "bridge", "macvlan", 1)
	c.RequireApply(t, changed)
	answer, err := c.Do(http.MethodGet, storage, nil)
	if err != nil || !strings.Contains(string(answer.Body), "macvlan") {
		t.Errorf("%v: %s", err, answer.Body)
	}
	answer, err = c.Do(http.MethodPatch, storage, map[string]any{"metadata": map[string]any{"labels": map[string]string{"a": "b"}}})
	if err != nil || answer.Err() != nil {
		t.Error(err, answer.Err())
	}
	for _, wrong := range []string{"kind: ConfigMap", "a: [", "{apiVersion: v1, kind: Nonsense, metadata: {name: a}}"} {
		if err = c.Apply(wrong); err == nil {
			t.Errorf("applied %s", wrong)
		}
	}
}

func testStopAndStart(t *testing.T, c *Cluster, account Credential) {
	url := c.URL()
	if err := c.StopAPI(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Do(http.MethodGet, "/readyz", nil); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a stopped API server: %v", err)
	}
	if err := c.StopAPI(); err == nil {
		t.Error("stopped twice")
	}
	before := len(c.RequireAuditLog(t, reader))
	began := time.Now()
	if err := c.StartAPI(); err != nil {
		t.Fatal(err)
	}
	t.Logf("started again in %s", time.Since(began).Round(time.Millisecond))
	if err := c.StartAPI(); err == nil {
		t.Error("started twice")
	}
	if c.URL() != url {
		t.Errorf("it was %s, and is %s", url, c.URL())
	}
	c.RequireClient(t, account).RequireDo(t, http.StatusOK, http.MethodGet, storage, nil)
	if after := len(c.RequireAuditLog(t, reader)); after != before+1 {
		t.Errorf("%d requests in the audit log before, %d after one more", before, after)
	}
}

func testFreeze(t *testing.T, c *Cluster) {
	if err := c.FreezeAPI(); err != nil {
		t.Fatal(err)
	}
	client := c.RequireClient(t, c.Admin())
	client.http.Timeout = 300 * time.Millisecond
	_, err := client.Do(http.MethodGet, "/readyz", nil)
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("a frozen API server: %v", err)
	}
	if err = c.ThawAPI(); err != nil {
		t.Fatal(err)
	}
	c.RequireClient(t, c.Admin()).RequireDo(t, http.StatusOK, http.MethodGet, "/readyz", nil)
}

func testRotate(t *testing.T, c *Cluster) {
	before, err := c.servedCertificate()
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err = c.RotateCertificate(); err != nil {
		t.Fatal(err)
	}
	t.Logf("a new certificate is served after %s", time.Since(began).Round(time.Millisecond))
	after, err := c.servedCertificate()
	if err != nil || after.Equal(before) {
		t.Errorf("still the old certificate, %v", err)
	}
	old := c.RequireClient(t, c.Admin())
	old.RequireDo(t, http.StatusOK, http.MethodGet, "/readyz", nil)

	if err = c.RotateCA(); err != nil {
		t.Fatal(err)
	}
	old.Close()
	if _, err = old.Do(http.MethodGet, "/readyz", nil); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("with the old CA: %v", err)
	}
	c.RequireClient(t, c.Admin()).RequireDo(t, http.StatusOK, http.MethodGet, "/readyz", nil)
	inFile, err := os.ReadFile(c.CAFile())
	if err != nil || string(inFile) != string(c.CA()) {
		t.Errorf("the CA in the file is another one, %v", err)
	}
}

// TestOwnerKilled: nothing of a killed test survives but its directory, and
// that goes with the next cluster.
func TestOwnerKilled(t *testing.T) {
	// Built before the owner starts, so that its few seconds are its own.
	if _, err := BinariesDir(); err != nil {
		t.Fatal(err)
	}
	owner := exec.Command(os.Args[0])
	owner.Env = append(os.Environ(), envOwner+"=1")
	owner.Stderr = os.Stderr
	stdout, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err = owner.Start(); err != nil {
		t.Fatal(err)
	}
	line, readErr := bufio.NewReader(stdout).ReadString('\n')
	if err = owner.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = owner.Wait()
	var dir string
	var etcd, api int
	if _, err = fmt.Sscan(line, &dir, &etcd, &api); err != nil {
		t.Fatal(err, readErr)
	}
	requireGone(t, []int{etcd, api})

	now := time.Now() // its last file may be a minute old on a busy machine
	if err = os.Chtimes(dir, now, now); err != nil {
		t.Fatal(err)
	}
	removeAbandoned(dirPrefix, nil)
	if _, err = os.Stat(dir); err != nil {
		t.Errorf("a new directory is left alone: %v", err)
	}
	long := time.Now().Add(-time.Hour)
	if err = os.Chtimes(dir, long, long); err != nil {
		t.Fatal(err)
	}
	removeAbandoned(dirPrefix, nil)
	if _, err = os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an abandoned directory stays: %v", err)
	}
}

func TestFailedStartSaysWhy(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	_, err := New("--no-such-flag")
	if err == nil || !strings.Contains(err.Error(), "unknown flag: --no-such-flag") {
		t.Errorf("the error does not say why: %v", err)
	}
	left, err := os.ReadDir(os.TempDir())
	if err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}

// TestProcessOutlivesThread: tests that enter namespaces end threads, and no
// process ends with the thread that asked for it.
func TestProcessOutlivesThread(t *testing.T) {
	program, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	var p *process
	onDyingThread(func() { p, err = startProcess(program, t.TempDir(), "60") })
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	if p.ended() {
		t.Error("the process ended with a thread")
	}
	if err = p.stop(); err != nil || !p.ended() {
		t.Errorf("stopped: %v, %v", p.ended(), err)
	}
}

// onDyingThread calls f on a thread that ends then.
func onDyingThread(f func()) {
	done := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		if syscall.Gettid() != syscall.Getpid() {
			f()
			close(done)
			// A goroutine that ends on a locked thread takes it along.
			return
		}
		// The main thread never ends: keep it, so that f gets another one.
		defer runtime.UnlockOSThread()
		onDyingThread(f)
		close(done)
	}()
	<-done
}

// requireGone fails the test when one of the processes stays.
func requireGone(t *testing.T, pids []int) {
	t.Helper()
	err := Poll(time.Minute, func() (bool, error) {
		for _, pid := range pids {
			if syscall.Kill(pid, 0) == nil && !zombie(pid) {
				return false, fmt.Errorf("process %d is still there", pid)
			}
		}
		return true, nil
	})
	if err != nil {
		t.Error(err)
	}
}

// zombie says that a process has ended, and its new parent has not looked yet.
func zombie(pid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	return err == nil && strings.Contains(string(status), "State:\tZ")
}

func rss(t *testing.T, p *process) string {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			return strings.TrimSpace(value)
		}
	}
	return "no VmRSS"
}
