package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"
)

// statusAnnotation is where the networks of a pod are published.
const statusAnnotation = "k8s.v1.cni.cncf.io/network-status"

// ask reads the own pod from the API server, by the address of its Service and
// as the pod's service account, and writes the pod's network-status. A pod
// without one is an error. POD_NAMESPACE and POD_NAME say which pod it is.
func ask() error {
	const account = "/var/run/secrets/kubernetes.io/serviceaccount/"
	token, err := os.ReadFile(account + "token")
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(account + "ca.crt")
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	url := fmt.Sprintf("https://%s/api/v1/namespaces/%s/pods/%s",
		net.JoinHostPort(os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")),
		os.Getenv("POD_NAMESPACE"), os.Getenv("POD_NAME"))
	request, err := http.NewRequest(http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+string(token))
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}, Timeout: time.Minute}
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: HTTP %s", url, answer.Status)
	}
	var pod struct {
		Metadata struct{ Annotations map[string]string }
	}
	if err = json.NewDecoder(answer.Body).Decode(&pod); err != nil {
		return err
	}
	status := pod.Metadata.Annotations[statusAnnotation]
	if status == "" {
		return errors.New("the pod has no network-status")
	}
	fmt.Println(status)
	return nil
}
