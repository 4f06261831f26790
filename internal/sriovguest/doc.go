// Package sriovguest holds the tests on real VFs: they run in a guest with
// two igb PFs, each on a physical network of its own (internal/guest).
package sriovguest
