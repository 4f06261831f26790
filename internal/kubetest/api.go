package kubetest

import (
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// startTime is how long the API server may take on a busy machine.
const startTime = 2 * time.Minute

func (c *Cluster) etcdFlags() []string {
	client, peer := "unix://"+c.dir.File(fileEtcdSocket), "unix://"+c.dir.File(filePeerSocket)
	return []string{
		"--name=e",
		"--data-dir=" + c.dir.File("etcd-data"),
		"--unsafe-no-fsync",
		"--log-level=warn",
		"--listen-client-urls=" + client,
		"--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer,
		"--initial-advertise-peer-urls=" + peer,
		"--initial-cluster=e=" + peer,
	}
}

func (c *Cluster) serverFlags() []string {
	serving := c.dir.File(fileServing)
	return override([]string{
		"--etcd-servers=unix://" + c.dir.File(fileEtcdSocket),
		"--bind-address=127.0.0.1",
		"--secure-port=" + strconv.Itoa(c.port.number),
		"--permit-port-sharing=true",
		// Loopback is refused as the address of the service "kubernetes".
		"--advertise-address=127.0.0.1",
		"--endpoint-reconciler-type=none",
		"--service-cluster-ip-range=10.96.0.0/16",
		"--tls-cert-file=" + serving,
		"--tls-private-key-file=" + serving,
		"--client-ca-file=" + c.dir.File(fileClientCA),
		"--token-auth-file=" + c.dir.File(fileTokens),
		"--authorization-mode=RBAC",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-signing-key-file=" + c.dir.File(fileAccountKey),
		"--service-account-key-file=" + c.dir.File(fileAccountPublic),
		// It refuses pods whose service account nobody made.
		"--disable-admission-plugins=ServiceAccount",
		"--allow-privileged=true",
		"--enable-priority-and-fairness=false",
		"--audit-policy-file=" + c.dir.File(filePolicy),
		"--audit-log-path=" + c.dir.File(fileAudit),
		// Never rotated.
		"--audit-log-maxsize=0",
		"--v=1",
	}, c.apiFlags)
}

// override returns both, but of own none that flags has too: the values of
// some flags add up instead.
func override(own, flags []string) []string {
	name := func(flag string) string {
		before, _, _ := strings.Cut(flag, "=")
		return before
	}
	return append(slices.DeleteFunc(own, func(flag string) bool {
		return slices.ContainsFunc(flags, func(other string) bool { return name(other) == name(flag) })
	}), flags...)
}

// StartAPI starts the API server again, with the same etcd, port and flags,
// and returns when it answers.
func (c *Cluster) StartAPI() error {
	if c.running() != nil {
		return errors.New("the API server runs already")
	}
	api, err := startProcess(filepath.Join(c.binaries, "kube-apiserver"), c.dir.Path, c.serverFlags()...)
	if err != nil {
		return err
	}
	c.setAPI(api)
	return c.waitReady(api)
}

// StopAPI kills the API server. Until StartAPI, connections are refused.
func (c *Cluster) StopAPI() error {
	api := c.running()
	if api == nil {
		return errors.New("the API server does not run")
	}
	c.setAPI(nil)
	c.client().Close()
	return api.stop()
}

// FreezeAPI halts the API server: the kernel accepts connections, and nothing
// is ever answered.
func (c *Cluster) FreezeAPI() error { return c.signalAPI(syscall.SIGSTOP) }

// ThawAPI lets a frozen API server go on.
func (c *Cluster) ThawAPI() error { return c.signalAPI(syscall.SIGCONT) }

func (c *Cluster) signalAPI(sig syscall.Signal) error {
	api := c.running()
	if api == nil {
		return errors.New("the API server does not run")
	}
	return api.signal(sig)
}

func (c *Cluster) running() *process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.api
}

func (c *Cluster) setAPI(api *process) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.api = api
}

func (c *Cluster) waitReady(api *process) error {
	// The API server makes these namespaces a moment after it is ready.
	paths := []string{"/readyz", "/api/v1/namespaces/default", "/api/v1/namespaces/kube-system"}
	ready := func() error {
		for _, path := range paths {
			answer, err := c.Do(http.MethodGet, path, nil)
			if err != nil {
				return err
			}
			if err = answer.Err(); err != nil {
				return fmt.Errorf("get %s: %w", path, err)
			}
		}
		return nil
	}
	err := Poll(startTime, func() (bool, error) {
		for _, p := range []*process{api, c.etcd} {
			if p.ended() {
				return true, fmt.Errorf("%s ended", p.name)
			}
		}
		notReady := ready()
		return notReady == nil, notReady
	})
	if err != nil {
		return fmt.Errorf("wait for the API server: %w\netcd: %s\nkube-apiserver: %s", err, c.etcd.tail(), api.tail())
	}
	return nil
}

// Poll calls f until it says that it is done, and returns what f said then,
// or said last.
func Poll(timeout time.Duration, f func() (done bool, err error)) error {
	deadline := time.Now().Add(timeout)
	for {
		done, err := f()
		if done {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not within %s: %w", timeout, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
