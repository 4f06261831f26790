package kubetest

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"
)

// RotateCertificate gives the API server a new certificate of the same CA and
// returns when new connections get it. Those that exist stay.
func (c *Cluster) RotateCertificate() error {
	c.mu.Lock()
	ca := c.ca
	c.mu.Unlock()
	if err := c.writeServing(ca); err != nil {
		return fmt.Errorf("rotate certificate: %w", err)
	}
	return c.waitServed()
}

// RotateCA gives the API server a certificate of a new CA, puts that CA into
// CAFile, and returns when new connections get the certificate.
func (c *Cluster) RotateCA() error {
	ca, err := newAuthority("kubetest CA")
	if err != nil {
		return fmt.Errorf("rotate CA: %w", err)
	}
	if err = c.write(fileCA, ca.pem); err != nil {
		return fmt.Errorf("rotate CA: %w", err)
	}
	if err = c.writeServing(ca); err != nil {
		return fmt.Errorf("rotate CA: %w", err)
	}
	if err = c.waitServed(); err != nil {
		return err
	}
	return c.trust(ca)
}

// waitServed returns when the API server serves the certificate of its file.
func (c *Cluster) waitServed() error {
	content, err := os.ReadFile(c.dir.File(fileServing))
	if err != nil {
		return fmt.Errorf("read certificate: %w", err)
	}
	block, _ := pem.Decode(content)
	if block == nil {
		return fmt.Errorf("no certificate in %s", fileServing)
	}
	// It reads its files every minute even when it misses their change.
	return Poll(3*time.Minute, func() (bool, error) {
		served, servedErr := c.servedCertificate()
		if servedErr != nil {
			return false, servedErr
		}
		if !bytes.Equal(served.Raw, block.Bytes) {
			return false, fmt.Errorf("the API server serves the certificate with serial number %s", served.SerialNumber)
		}
		return true, nil
	})
}

func (c *Cluster) servedCertificate() (*x509.Certificate, error) {
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(c.port.number))
	// Nothing is sent; which certificate it is, is the question.
	conn, err := tls.DialWithDialer(dialer, "tcp", address, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		return nil, fmt.Errorf("connect to the API server: %w", err)
	}
	defer func() { _ = conn.Close() }()
	return conn.ConnectionState().PeerCertificates[0], nil
}
