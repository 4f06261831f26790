package kubetest

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Client asks the API server as one user.
type Client struct {
	http  *http.Client
	url   string
	token string
}

// Answer is what the API server said.
type Answer struct {
	Code int
	Body []byte
	// AuditID is the request's, see [AuditEntry].
	AuditID string
}

// As returns a client for a user. It trusts the CA of this moment: after
// [Cluster.RotateCA] another one is needed.
func (c *Cluster) As(cred Credential) (*Client, error) {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(c.CA())
	config := &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}
	if len(cred.Certificate) > 0 {
		pair, err := tls.X509KeyPair(cred.Certificate, cred.Key)
		if err != nil {
			return nil, fmt.Errorf("read client certificate: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return &Client{
		url:   c.URL(),
		token: cred.Token,
		http: &http.Client{
			// No proxy.
			Transport: &http.Transport{TLSClientConfig: config, MaxIdleConnsPerHost: 16},
			Timeout:   30 * time.Second,
		},
	}, nil
}

// Do sends one request and reads the whole answer. A body that is not nil, a
// string or bytes is encoded as JSON. PATCH is a merge patch.
func (c *Client) Do(method, path string, body any) (Answer, error) {
	kind := "application/json"
	if method == http.MethodPatch {
		kind = "application/merge-patch+json"
	}
	return c.do(method, path, kind, body)
}

func (c *Client) do(method, path, kind string, body any) (Answer, error) {
	content, err := encodeBody(body)
	if err != nil {
		return Answer{}, fmt.Errorf("%s %s: encode body: %w", method, path, err)
	}
	request, err := http.NewRequest(method, c.url+path, bytes.NewReader(content))
	if err != nil {
		return Answer{}, fmt.Errorf("%s %s: %w", method, path, err)
	}
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", "kubetest")
	if len(content) > 0 {
		request.Header.Set("Content-Type", kind)
	}
	if c.token != "" {
		request.Header.Set("Authorization", "Bearer "+c.token)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return Answer{}, err
	}
	defer func() { _ = response.Body.Close() }()
	answer := Answer{Code: response.StatusCode, AuditID: response.Header.Get("Audit-Id")}
	if answer.Body, err = io.ReadAll(response.Body); err != nil {
		return Answer{}, fmt.Errorf("%s %s: read answer: %w", method, path, err)
	}
	return answer, nil
}

// Close ends the connections that are kept for the next request.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Into decodes the answer. An answer that is not a success is an error.
func (a Answer) Into(v any) error {
	if err := a.Err(); err != nil {
		return err
	}
	if err := json.Unmarshal(a.Body, v); err != nil {
		return fmt.Errorf("decode answer: %w", err)
	}
	return nil
}

// Err returns an error for an answer that is not a success.
func (a Answer) Err() error {
	if a.Code >= 200 && a.Code < 300 {
		return nil
	}
	var status struct{ Message string }
	if json.Unmarshal(a.Body, &status) != nil || status.Message == "" {
		status.Message = string(a.Body)
	}
	return fmt.Errorf("HTTP %d: %s", a.Code, status.Message)
}

func encodeBody(body any) ([]byte, error) {
	switch body := body.(type) {
	case nil:
		return nil, nil
	case []byte:
		return body, nil
	case string:
		return []byte(body), nil
	default:
		return json.Marshal(body)
	}
}
