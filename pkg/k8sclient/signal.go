package k8sclient

import "context"

// signal calls a function some time after it was given, once for all that came
// meanwhile: who gives it does not wait.
type signal struct {
	call  func()
	given chan struct{}
}

func newSignal(call func()) signal {
	return signal{call: call, given: make(chan struct{}, 1)}
}

func (s signal) give() {
	select {
	case s.given <- struct{}{}:
	default:
	}
}

func (s signal) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.given:
			if s.call != nil {
				s.call()
			}
		}
	}
}
