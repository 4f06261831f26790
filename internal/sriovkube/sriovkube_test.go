package sriovkube

import "testing"

// One boot of two nodes serves every case, and what takes one node only runs on
// both at once: `-run TestNodes/apart/pairing`.
func TestNodes(t *testing.T) {
	s := newSite(t)
	s.defineAll(t)
	t.Run("apart", func(t *testing.T) {
		for _, c := range []struct {
			name string
			run  func(*testing.T, *site, *node)
			node *node
		}{
			{"pairing", pairing, s.nodes[0]},
			{"VFs come and go", comeAndGo, s.nodes[1]},
		} {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				s.showLogsOf(t)
				c.run(t, s, c.node)
			})
		}
	})
	t.Run("together", func(t *testing.T) {
		s.showLogsOf(t)
		twoNodes(t, s)
	})
	s.said(t, "all is judged")
}
