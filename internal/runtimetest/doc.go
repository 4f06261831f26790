// Package runtimetest lets the container runtimes' own CNI code drive the
// plugin: containerd's go-cni, CRI-O's ocicni, and a libcni from before CNI
// 1.1. Its module is one of its own, so that none of them decides which
// versions the plugin is built with; the plugin under test is the executable
// of the main module.
//
// That code starts plugins from whatever thread it runs on. Each test
// therefore has it in a process of its own, the driver, which lives in the
// test's node: the network namespace that plays the host, and a mount
// namespace in which /var/lib belongs to the test, since go-cni's cache
// cannot be put anywhere else than /var/lib/cni.
package runtimetest
