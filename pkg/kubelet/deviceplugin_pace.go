package kubelet

import "time"

// pace is how long a plugin waits for what.
type pace struct {
	patience time.Duration // for kubelet's plugin watcher to come, before Register is tried
	settle   time.Duration // the same after a restart of a kubelet whose watcher never came
	lost     time.Duration // without a stream, before kubelet is called again
	begins   time.Duration // for a kubelet that starts to make the directory of its plugin watcher
	tick     time.Duration // between looks while there is no stream
	poll     time.Duration // between looks otherwise: events tell of changes
	slowest  time.Duration // between tries in the end
}

func onNode() pace {
	return pace{
		patience: 30 * time.Second, settle: 3 * time.Second, lost: 5 * time.Second, begins: time.Second,
		tick: time.Second, poll: 30 * time.Second, slowest: 30 * time.Second,
	}
}

// tries doubles the time between tries.
type tries struct {
	next time.Time
	wait time.Duration
}

func (b *tries) due(now time.Time) bool { return !now.Before(b.next) }

func (b *tries) tried(now time.Time, first, slowest time.Duration) {
	b.wait = min(max(2*b.wait, first), slowest)
	b.next = now.Add(b.wait)
}

func (b *tries) reset() { *b = tries{} }
