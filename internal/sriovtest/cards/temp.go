package cards

import (
	"os"
	"testing"
)

// Temp begins a sysfs for a test, which is removed with it. It is in memory
// where the machine has a place for that: a disk takes seconds for 512 VFs.
func Temp(t testing.TB) *Tree {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "multiplexer-cards-")
	if err != nil {
		return New(t.TempDir())
	}
	t.Cleanup(func() {
		if removeErr := os.RemoveAll(dir); removeErr != nil {
			t.Errorf("remove the cards: %v", removeErr)
		}
	})
	return New(dir)
}
