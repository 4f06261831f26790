package install

import (
	"slices"
	"time"
)

// Two programs that both want first place must not rewrite each other's
// files for ever: the runtime reads them all anew each time.
const (
	retakes     = 3
	retakeSpell = 10 * time.Minute
)

// limiter counts how often something was taken back.
type limiter struct{ times []time.Time }

// allow reports whether it may be taken back once more, and counts that.
func (l *limiter) allow(now time.Time) bool {
	l.times = slices.DeleteFunc(l.times, func(t time.Time) bool { return now.Sub(t) >= retakeSpell })
	if len(l.times) >= retakes {
		return false
	}
	l.times = append(l.times, now)
	return true
}

// forget takes back what was allowed last: it failed, and took nothing back.
func (l *limiter) forget() { l.times = l.times[:len(l.times)-1] }
