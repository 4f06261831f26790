package kubetest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
)

// Files in the cluster's directory.
const (
	fileCA       = "ca.crt"
	fileClientCA = "client-ca.crt"
	// fileServing holds certificate and key, so that one rename replaces both.
	fileServing       = "serving.pem"
	fileAccountKey    = "service-account.key"
	fileAccountPublic = "service-account.pub"
	fileTokens        = "tokens.csv"
	filePolicy        = "audit-policy.json"
	fileAudit         = "audit.log"
	fileEtcdSocket    = "etcd"
	filePeerSocket    = "peer"
)

// auditPolicy records every request at its end, watches at their start too,
// but not what the API server asks itself.
const auditPolicy = `{
	"apiVersion": "audit.k8s.io/v1",
	"kind": "Policy",
	"omitStages": ["RequestReceived"],
	"rules": [
		{"level": "None", "users": ["system:apiserver"]},
		{"level": "Metadata"}
	]
}`

// writeFiles writes what the API server reads.
func (c *Cluster) writeFiles() error {
	ca, err := newAuthority("kubetest CA")
	if err != nil {
		return err
	}
	if c.clientCA, err = newAuthority("kubetest client CA"); err != nil {
		return err
	}
	accountKey, err := newKey()
	if err != nil {
		return err
	}
	private, err := encodeKey(accountKey)
	if err != nil {
		return err
	}
	public, err := encodePublic(accountKey)
	if err != nil {
		return err
	}
	return errors.Join(
		c.write(fileClientCA, c.clientCA.pem),
		c.write(fileAccountKey, private),
		c.write(fileAccountPublic, public),
		c.write(fileTokens, []byte(c.adminToken+",admin,admin,system:masters\n")),
		c.write(filePolicy, []byte(auditPolicy)),
		c.writeServing(ca),
		c.write(fileCA, ca.pem),
		c.trust(ca),
	)
}

// writeServing writes a new certificate for the API server.
func (c *Cluster) writeServing(ca *authority) error {
	cert, key, err := ca.server()
	if err != nil {
		return err
	}
	return c.write(fileServing, bytes.Join([][]byte{cert, key}, nil))
}

// write replaces a file as a whole.
func (c *Cluster) write(name string, content []byte) error {
	path := c.dir.File(name)
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("replace %s: %w", name, err)
	}
	return nil
}
