package routing

// choices makes decisions out of bytes, one each. When the bytes are used up,
// every decision is the first of its kind, the plainest.
type choices struct{ data []byte }

// n chooses one of k, from 0.
func (c *choices) n(k int) int {
	if len(c.data) == 0 {
		return 0
	}
	b := c.data[0]
	c.data = c.data[1:]
	return int(b) % k
}

// rarely is true once in k times.
func (c *choices) rarely(k int) bool { return c.n(k) == k-1 }

// oneOf chooses from a list.
func oneOf[T any](c *choices, list ...T) T { return list[c.n(len(list))] }
