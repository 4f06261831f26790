package kubelettest

import (
	"testing"
	"time"
)

// StartDeviceManager starts a kubelet on dir, which the end of the test stops.
// The sockets' paths have at most 107 bytes.
func StartDeviceManager(tb testing.TB, dir string, options ...ManagerOption) *DeviceManager {
	tb.Helper()
	m, err := NewDeviceManager(dir, options...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if stopErr := m.Stop(); stopErr != nil {
			tb.Error(stopErr)
		}
	})
	return m
}

// RequireStop calls [DeviceManager.Stop].
func (m *DeviceManager) RequireStop(tb testing.TB) {
	tb.Helper()
	if err := m.Stop(); err != nil {
		tb.Fatal(err)
	}
}

// RequireRestart calls [DeviceManager.Restart].
func (m *DeviceManager) RequireRestart(tb testing.TB) {
	tb.Helper()
	if err := m.Restart(); err != nil {
		tb.Fatal(err)
	}
}

// RequireFor calls [DeviceManager.WaitFor].
func (m *DeviceManager) RequireFor(tb testing.TB, resource string, timeout time.Duration, ok func(Resource) bool) {
	tb.Helper()
	if err := m.WaitFor(resource, ok, timeout); err != nil {
		tb.Fatal(err)
	}
}
