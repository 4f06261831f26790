package routing

import "testing"

// Whatever world the bytes stand for, the rules hold in it.
func FuzzDecide(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 400 {
			return // no world has so many choices
		}
		complain(t, newWorld(data), "")
	})
}
