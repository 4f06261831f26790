package k8sclient

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"k8s.io/client-go/rest"

	"github.com/multiplexer-cni/multiplexer/internal/kubetest"
)

const (
	account = "system:serviceaccount:kube-system:multiplexer"
	ourNode = "node-a"
)

// cluster is every test's. Its weather is one test's at a time: none is parallel.
var (
	cluster *kubetest.Cluster
	token   string
)

func TestMain(m *testing.M) {
	kubetest.Exit(run(m))
}

func run(m *testing.M) (code int, err error) {
	if cluster, err = kubetest.New(); err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, cluster.Close()) }()
	rights, err := os.ReadFile("../../deploy/rbac.yaml")
	if err != nil {
		return 1, err
	}
	if err = cluster.Apply(string(rights), kubetest.DefinitionsCRD(), nodeManifest(ourNode)); err != nil {
		return 1, err
	}
	for _, access := range []kubetest.Access{
		{User: account, Verb: "watch", Group: "k8s.cni.cncf.io", Resource: resourceDefinitions},
		{User: account, Verb: "patch", Resource: resourceEvents},
	} {
		if err = cluster.WaitAllowed(access); err != nil {
			return 1, err
		}
	}
	if token, err = cluster.Token("kube-system", "multiplexer"); err != nil {
		return 1, err
	}
	if code = m.Run(); code == 0 {
		err = checkRequests()
	}
	return code, err
}

// checkRequests looks at all that the tests made the client ask: it needs no
// more rights than it has, and watches no more than its node.
func checkRequests() error {
	entries, err := cluster.AuditLog()
	if err != nil {
		return err
	}
	// An API server that has just started refuses, until it knows its roles.
	seen, refused := map[string]bool{}, map[string]string{}
	for _, entry := range entries {
		if entry.User != account {
			continue
		}
		if entry.UserAgent != component {
			return fmt.Errorf("%s: the user agent is %q", entry, entry.UserAgent)
		}
		what := entry.Resource
		if entry.Subresource != "" {
			what += "/" + entry.Subresource
		}
		if entry.Code == http.StatusForbidden {
			refused[what+" "+entry.Verb] = entry.String()
			continue
		}
		seen[what+" "+entry.Verb] = true
		selectors := map[string]string{resourcePods: "spec.nodeName=" + ourNode, resourceNodes: "metadata.name=" + ourNode}
		want, narrow := selectors[entry.Resource]
		uri, parseErr := url.Parse(entry.URI)
		if parseErr != nil {
			return parseErr
		}
		if got := uri.Query().Get("fieldSelector"); narrow && (entry.Verb == "list" || entry.Verb == "watch") && got != want {
			return fmt.Errorf("%s: field selector %q, want %q", entry.URI, got, want)
		}
	}
	for what, entry := range refused {
		// A first list is a watch; a list is what follows when that fails.
		if !seen[what] && !seen[strings.Replace(what, " list", " watch", 1)] {
			return fmt.Errorf("the client may not: %s", entry)
		}
	}
	// One test alone does not ask for everything.
	if flag.Lookup("test.run").Value.String() != "" || flag.Lookup("test.skip").Value.String() != "" {
		return nil
	}
	for _, want := range []string{
		"network-attachment-definitions get", "network-attachment-definitions watch", "pods get", "pods watch", "pods/status patch",
		"namespaces watch", "nodes watch", "servicecidrs list", "servicecidrs watch", "events create", "events patch",
	} {
		if !seen[want] {
			return fmt.Errorf("nothing asked for %q: is the right needed?", want)
		}
	}
	return nil
}

func nodeManifest(name string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Node\nmetadata: {name: %s}\nspec: {podCIDR: 10.244.3.0/24, podCIDRs: [10.244.3.0/24, \"fd00:244:3::/64\"]}\n", name)
}

// running is a client that runs.
type running struct {
	*Client
	changed, gone atomic.Int32
	log           buffer
	streams       streams
	stop          context.CancelFunc
	ended         chan error
}

// start runs a client until the end of the test, and checks what it leaves.
func start(t *testing.T, edits ...func(*Options)) *running {
	t.Helper()
	r := &running{ended: make(chan error, 1)}
	r.streams.open = map[*stream]bool{}
	opts := Options{
		Config:     &rest.Config{Host: cluster.URL(), BearerToken: token, TLSClientConfig: rest.TLSClientConfig{CAFile: cluster.CAFile()}},
		Node:       ourNode,
		Namespaces: true,
		Log:        slog.New(slog.NewTextHandler(io.MultiWriter(&r.log, t.Output()), nil)),
		Changed:    func() { r.changed.Add(1) },
		PodGone:    func() { r.gone.Add(1) },
	}
	opts.Config.Wrap(func(next http.RoundTripper) http.RoundTripper { r.streams.next = next; return &r.streams })
	for _, edit := range edits {
		edit(&opts)
	}
	client, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	r.Client = client
	ctx, cancel := context.WithCancel(context.Background())
	r.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case runErr := <-r.ended:
			if runErr != nil {
				t.Error(runErr)
			}
		case <-time.After(30 * time.Second):
			t.Error("Run does not end")
		}
		// kubetest's own connections speak HTTP/1.
		// By itself goleak waits for less than a second.
		var leak error
		for giveUp := time.Now().Add(30 * time.Second); ; {
			leak = goleak.Find(goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
				goleak.IgnoreAnyFunction("github.com/multiplexer-cni/multiplexer/internal/kubetest.(*process).run"),
				goleak.IgnoreAnyFunction("os/exec.(*Cmd).Start.func2"), goleak.IgnoreAnyFunction("testing.tRunner"))
			if leak == nil || time.Now().After(giveUp) {
				break
			}
		}
		if leak != nil {
			t.Error(leak)
		}
	})
	t.Cleanup(r.stop)
	go func() { r.ended <- client.Run(ctx) }()
	return r
}

func startSynced(t *testing.T, edits ...func(*Options)) *running {
	t.Helper()
	r := start(t, edits...)
	eventually(t, r.Synced)
	return r
}

// eventually waits until something is as it should be.
func eventually(t *testing.T, check func() error) {
	t.Helper()
	deadline := time.Now().Add(90 * time.Second)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("not in time: ", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// soon limits a call, as the agent does.
func soon(t *testing.T, limit time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

// did sends a request as the admin.
func did(t *testing.T, method, path string, body any) kubetest.Answer {
	t.Helper()
	answer, err := cluster.Do(method, path, body)
	if err == nil {
		err = answer.Err()
	}
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// asked counts what the client asked for so far, such as "get pods default/a 200".
func asked(t *testing.T, what string) int {
	t.Helper()
	var n int
	for _, entry := range cluster.RequireAuditLog(t, account) {
		if strings.HasPrefix(entry.String(), what) {
			n++
		}
	}
	return n
}

// namespace makes one of the test's own.
func namespace(t *testing.T, name string) string {
	t.Helper()
	cluster.RequireApply(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: "+name+"}\n")
	return name
}

// buffer is a log that can be read meanwhile.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) count(text string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Count(b.text.String(), text)
}

// streams is a transport whose watches can be held back and cut.
type streams struct {
	next http.RoundTripper
	// answer, if set, may answer in place of the API server.
	answer func(*http.Request) *http.Response

	mu   sync.Mutex
	held bool
	open map[*stream]bool
}

type stream struct {
	io.ReadCloser
	all *streams
	cut atomic.Bool
}

func (s *streams) RoundTrip(request *http.Request) (*http.Response, error) {
	if s.answer != nil {
		if response := s.answer(request); response != nil {
			return response, nil
		}
	}
	response, err := s.next.RoundTrip(request)
	if err == nil && slices.Contains(request.URL.Query()["watch"], "true") {
		one := &stream{ReadCloser: response.Body, all: s}
		response.Body = one
		s.mu.Lock()
		s.open[one] = true
		s.mu.Unlock()
	}
	return response, err
}

func (s *streams) WrappedRoundTripper() http.RoundTripper { return s.next }

// hold keeps all news back, or lets them come.
func (s *streams) hold(held bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = held
}

func (s *streams) isHeld() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held
}

// cutAll ends all watches and returns how many there were.
func (s *streams) cutAll() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.open)
	for one := range s.open {
		one.cut.Store(true)
		_ = one.ReadCloser.Close()
	}
	return n
}

func (s *stream) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	for s.all.isHeld() && err == nil && !s.cut.Load() {
		time.Sleep(5 * time.Millisecond)
	}
	if s.cut.Load() {
		return 0, io.ErrUnexpectedEOF
	}
	return n, err
}

func (s *stream) Close() error {
	s.cut.Store(true)
	s.all.mu.Lock()
	delete(s.all.open, s)
	s.all.mu.Unlock()
	return s.ReadCloser.Close()
}
