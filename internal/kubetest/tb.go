package kubetest

import (
	"path/filepath"
	"testing"
)

// Start starts a cluster that the end of the test removes, see [New].
func Start(tb testing.TB, apiFlags ...string) *Cluster {
	tb.Helper()
	c, err := New(apiFlags...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if api := c.running(); tb.Failed() && api != nil {
			tb.Logf("%s: %s", api.name, api.tail())
		}
		if closeErr := c.Close(); closeErr != nil {
			tb.Errorf("remove cluster: %v", closeErr)
		}
	})
	return c
}

// RequireApply calls [Cluster.Apply].
func (c *Cluster) RequireApply(tb testing.TB, documents ...string) {
	tb.Helper()
	if err := c.Apply(documents...); err != nil {
		tb.Fatal(err)
	}
}

// RequireToken calls [Cluster.Token].
func (c *Cluster) RequireToken(tb testing.TB, namespace, name string) string {
	tb.Helper()
	token, err := c.Token(namespace, name)
	if err != nil {
		tb.Fatal(err)
	}
	return token
}

// RequireKubeconfig calls [Cluster.Kubeconfig] with a file of the test.
func (c *Cluster) RequireKubeconfig(tb testing.TB, cred Credential) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "kubeconfig")
	if err := c.Kubeconfig(path, cred); err != nil {
		tb.Fatal(err)
	}
	return path
}

// RequireClient calls [Cluster.As]; the end of the test closes the client.
func (c *Cluster) RequireClient(tb testing.TB, cred Credential) *Client {
	tb.Helper()
	client, err := c.As(cred)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(client.Close)
	return client
}

// RequireDo calls [Client.Do] and fails the test when the answer has another code.
func (c *Client) RequireDo(tb testing.TB, code int, method, path string, body any) Answer {
	tb.Helper()
	answer, err := c.Do(method, path, body)
	if err != nil {
		tb.Fatal(err)
	}
	if answer.Code != code {
		tb.Fatalf("%s %s: HTTP %d instead of %d: %s", method, path, answer.Code, code, answer.Body)
	}
	return answer
}

// RequireAuditLog calls [Cluster.AuditLog] and returns the requests of one user.
func (c *Cluster) RequireAuditLog(tb testing.TB, user string) []AuditEntry {
	tb.Helper()
	all, err := c.AuditLog()
	if err != nil {
		tb.Fatal(err)
	}
	var entries []AuditEntry
	for _, entry := range all {
		if entry.User == user {
			entries = append(entries, entry)
		}
	}
	return entries
}
