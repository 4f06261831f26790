package multiplexer

import (
	"io"
	"time"
)

// Patient is a Writer that never blocks: what its reader does not take in
// time is dropped. A runtime that holds our standard error open and does not
// read it must not keep a delegate's DEL from being finished.
type Patient struct {
	lines chan []byte
	done  chan struct{}
}

// NewPatient returns a Patient in front of w.
func NewPatient(w io.Writer) *Patient {
	p := &Patient{lines: make(chan []byte, 256), done: make(chan struct{})}
	go func() {
		defer close(p.done)
		for line := range p.lines {
			_, _ = w.Write(line) // nobody is left to tell
		}
	}()
	return p
}

// Write implements io.Writer; it never fails.
func (p *Patient) Write(b []byte) (int, error) {
	select {
	case p.lines <- append([]byte(nil), b...):
	default:
	}
	return len(b), nil
}

// Close waits a moment for what was written. Nothing may be written after it.
func (p *Patient) Close() {
	close(p.lines)
	select {
	case <-p.done:
	case <-time.After(500 * time.Millisecond):
	}
}
