package deviceplugin

import (
	"log/slog"
	"sync"
)

// notices keep the log from saying the same again at each look.
type notices struct {
	mu   sync.Mutex
	last map[string]string // by what they are about
}

// say warns if it is news; an empty text takes the last back.
func (n *notices) say(log *slog.Logger, about, message, text string, more ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.last == nil {
		n.last = map[string]string{}
	}
	if text == n.last[about] {
		return
	}
	n.last[about] = text
	if text == "" {
		delete(n.last, about)
		return
	}
	log.Warn(message, append(more, "error", text)...)
}

// check is say for an error, nil = none.
func (n *notices) check(log *slog.Logger, about, message string, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	n.say(log, about, message, text)
}
