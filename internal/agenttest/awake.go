package agenttest

import "time"

// How often the clock of awake ticks, and the most that a tick counts.
const (
	awakeTick = 10 * time.Millisecond
	awakeMost = 50 * time.Millisecond
)

// tick runs the clock of awake until the end of the test.
func (n *Node) tick() {
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for last := time.Now(); ; {
			select {
			case <-end:
				return
			case <-time.After(awakeTick):
			}
			now := time.Now()
			n.worked.Add(int64(min(now.Sub(last), awakeMost)))
			last = now
		}
	}()
	n.Cleanup(func() {
		close(end)
		<-ended
	})
}

// awake returns a function that says how long this machine has had time for us
// since: while it stands still, or is busy with others, that goes on slowly or
// not at all. Who is to be quick is measured so, and not by the clock.
func (n *Node) awake() (since func() time.Duration) {
	start := n.worked.Load()
	return func() time.Duration { return time.Duration(n.worked.Load() - start) }
}
