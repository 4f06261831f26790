// Package kubelettest is a kubelet as far as pod-resources goes: the real
// gRPC service on a unix socket, with the manners of the real one. Devices
// come in another order each time and one entry each, requests are limited,
// an unknown pod is an error without a code, a killed kubelet leaves its
// socket behind, and a hanging one accepts connections.
//
// A [DeviceManager] is the other half of a kubelet that matters here: it
// registers device plugins, by its plugin watcher and by Register, follows
// their lists and allocates.
//
// The core functions return errors, so that programs outside of tests can use
// them; [Start] and [StartDeviceManager] wrap them for tests.
package kubelettest
