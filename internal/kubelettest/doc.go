// Package kubelettest is a kubelet as far as pod-resources goes: the real
// gRPC service on a unix socket, with the manners of the real one. Devices
// come in another order each time and one entry each, requests are limited,
// an unknown pod is an error without a code, a killed kubelet leaves its
// socket behind, and a hanging one accepts connections.
//
// The core functions return errors, so that programs outside of tests can use
// them; [Start] wraps them for tests.
package kubelettest
