package kubetest

import (
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
)

// Cluster is one etcd and one kube-apiserver. Its methods may be called from
// several goroutines, but the weather is one goroutine's.
type Cluster struct {
	binaries   string
	apiFlags   []string
	adminToken string
	clientCA   *authority
	dir        *TempDir
	port       *port
	etcd       *process

	mu sync.Mutex
	// ca signed what the API server serves.
	ca    *authority
	admin *Client
	// api is nil while the API server is stopped.
	api *process
}

// New starts a cluster and returns when it answers. apiFlags are more flags for
// kube-apiserver, which override its own ones. The processes end with Close,
// or when this process ends in whatever way.
func New(apiFlags ...string) (*Cluster, error) {
	binaries, err := BinariesDir()
	if err != nil {
		return nil, err
	}
	// The programs run in a directory of their own.
	if binaries, err = filepath.Abs(binaries); err != nil {
		return nil, fmt.Errorf("find etcd and kube-apiserver: %w", err)
	}
	c := &Cluster{binaries: binaries, apiFlags: apiFlags, adminToken: rand.Text()}
	if err = c.start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start cluster: %w", err), c.Close())
	}
	return c, nil
}

func (c *Cluster) start() error {
	var err error
	if c.dir, err = MakeTempDir(dirPrefix, nil); err != nil {
		return err
	}
	if c.port, err = reservePort(); err != nil {
		return err
	}
	if err = c.writeFiles(); err != nil {
		return err
	}
	if c.etcd, err = startProcess(filepath.Join(c.binaries, "etcd"), c.dir.Path, c.etcdFlags()...); err != nil {
		return err
	}
	return c.StartAPI()
}

// Close kills both processes and removes all that they wrote.
func (c *Cluster) Close() error {
	var errs []error
	if c.admin != nil {
		c.admin.Close()
	}
	if c.api != nil {
		errs = append(errs, c.api.stop())
	}
	if c.etcd != nil {
		errs = append(errs, c.etcd.stop())
	}
	if c.port != nil {
		errs = append(errs, c.port.close())
	}
	if c.dir != nil {
		errs = append(errs, c.dir.Remove())
	}
	return errors.Join(errs...)
}

// URL is the API server's, the same after a restart.
func (c *Cluster) URL() string { return fmt.Sprintf("https://127.0.0.1:%d", c.port.number) }

// CA returns the certificate that the API server's is signed by.
func (c *Cluster) CA() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ca.pem
}

// CAFile is the file with CA in it, replaced by [Cluster.RotateCA].
func (c *Cluster) CAFile() string { return c.dir.File(fileCA) }

// Do sends one request as Admin, see [Client.Do].
func (c *Cluster) Do(method, path string, body any) (Answer, error) {
	return c.client().Do(method, path, body)
}

// client is Admin's.
func (c *Cluster) client() *Client {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.admin
}

// trust makes ca the one that new clients trust.
func (c *Cluster) trust(ca *authority) error {
	c.mu.Lock()
	old := c.admin
	c.ca = ca
	c.mu.Unlock()
	admin, err := c.As(c.Admin())
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.admin = admin
	c.mu.Unlock()
	if old != nil {
		old.Close()
	}
	return nil
}
