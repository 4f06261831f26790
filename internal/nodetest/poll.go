package nodetest

import (
	"fmt"
	"time"
)

// patience is how long something may take on a busy machine.
const patience = 2 * time.Minute

// poll calls f until it says that it is done, and returns what f said then,
// or said last.
func poll(timeout time.Duration, f func() (done bool, err error)) error {
	deadline := time.Now().Add(timeout)
	for {
		done, err := f()
		if done {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not within %s: %w", timeout, err)
		}
		time.Sleep(30 * time.Millisecond)
	}
}
