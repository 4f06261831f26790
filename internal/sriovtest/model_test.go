package sriovtest

import (
	"testing"
	"testing/synctest"
)

// The table on each driver, in the model's own time.
func TestTable(t *testing.T) {
	n := NewNamespaces(t)
	for _, d := range []Driver{IGB(), Capable(), LateOne(), BusyOne(), Mute(), Switchdev()} {
		for _, c := range Cases() {
			t.Run(d.Name+"/"+c.Name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { c.On(t, OnModel(t, NewModel(t, d), n)) })
			})
		}
	}
}
