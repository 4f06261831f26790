package kubetest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
)

// Credential is how a client proves who it is: a token or a certificate.
type Credential struct {
	Token string
	// TokenFile is for kubeconfigs only, whose reader reads it again and again.
	TokenFile string
	// Certificate and Key are PEM.
	Certificate, Key []byte
}

// Admin may do everything. Its user name is "admin".
func (c *Cluster) Admin() Credential { return Credential{Token: c.adminToken} }

// User returns a client certificate for a user with that name, in those groups.
func (c *Cluster) User(name string, groups ...string) (Credential, error) {
	cert, key, err := c.clientCA.client(name, groups)
	return Credential{Certificate: cert, Key: key}, err
}

// Token asks the API server for a token of the service account, valid for an
// hour. Its user name is "system:serviceaccount:NAMESPACE:NAME".
func (c *Cluster) Token(namespace, name string) (string, error) {
	path := fmt.Sprintf("/api/v1/namespaces/%s/serviceaccounts/%s/token", namespace, name)
	answer, err := c.Do(http.MethodPost, path, map[string]any{
		"apiVersion": "authentication.k8s.io/v1",
		"kind":       "TokenRequest",
		"spec":       map[string]any{"expirationSeconds": 3600},
	})
	if err != nil {
		return "", fmt.Errorf("request token: %w", err)
	}
	var reply struct{ Status struct{ Token string } }
	if err = answer.Into(&reply); err != nil {
		return "", fmt.Errorf("request token of %s/%s: %w", namespace, name, err)
	}
	return reply.Status.Token, nil
}

// AdminKubeconfig writes a kubeconfig for Admin.
func (c *Cluster) AdminKubeconfig(path string) error { return c.Kubeconfig(path, c.Admin()) }

// Kubeconfig writes a kubeconfig, as JSON, which is YAML too. It names the
// file of the CA, see [Cluster.CAFile].
func (c *Cluster) Kubeconfig(path string, cred Credential) error {
	user := map[string]any{}
	if cred.Token != "" {
		user["token"] = cred.Token
	}
	if cred.TokenFile != "" {
		user["tokenFile"] = cred.TokenFile
	}
	if len(cred.Certificate) > 0 {
		// encoding/json writes []byte in base64, as a kubeconfig wants it.
		user["client-certificate-data"], user["client-key-data"] = cred.Certificate, cred.Key
	}
	type list []map[string]any
	content, err := json.MarshalIndent(map[string]any{
		"apiVersion":      "v1",
		"kind":            "Config",
		"clusters":        list{{"name": "test", "cluster": map[string]any{"server": c.URL(), "certificate-authority": c.CAFile()}}},
		"users":           list{{"name": "test", "user": user}},
		"contexts":        list{{"name": "test", "context": map[string]any{"cluster": "test", "user": "test"}}},
		"current-context": "test",
	}, "", "  ")
	if err != nil {
		return fmt.Errorf("encode kubeconfig: %w", err)
	}
	if err = os.WriteFile(path, append(content, '\n'), 0o600); err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	return nil
}
