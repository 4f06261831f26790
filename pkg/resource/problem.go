package resource

import (
	"fmt"
	"strings"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// Problem is what is wrong with a part of the file. A part is taken exactly as
// it is written or not at all: what is refused is left out, the others are
// served. The rest are warnings.
type Problem struct {
	Source   string // the file
	Resource string // full name, "resourceList[2]", "pfs[0]"; "" = the file itself
	Key      string // "selectors[0].pfNames[1]"
	Text     string // the value, and what to do
	Refused  bool
}

// Error implements error.
func (p Problem) Error() string {
	parts := []string{p.Source}
	if p.Resource != "" {
		part := p.Resource
		if p.Refused {
			part += " is left out"
		}
		parts = append(parts, part)
	}
	if p.Key != "" {
		parts = append(parts, p.Key)
	}
	return strings.Join(append(parts, p.Text), ": ")
}

// Unwrap makes every problem one of kind Invalid.
func (p Problem) Unwrap() error { return network.Invalid }

// reader collects what is wrong while the file is read.
type reader struct {
	source   string
	prefix   string // default of resourcePrefix
	problems []Problem
	refusals int
}

// place is where the reader is: in a resource or a PF, at a key.
type place struct {
	*reader
	part, key string
}

func (at place) in(key string) place {
	if at.key != "" {
		key = at.key + "." + key
	}
	at.key = key
	return at
}

func (at place) item(i int) place {
	at.key = fmt.Sprintf("%s[%d]", at.key, i)
	return at
}

// refuse reports what makes the part unfit to be served.
func (at place) refuse(format string, args ...any) {
	at.refusals++
	at.problems = append(at.problems, Problem{at.source, at.part, at.key, fmt.Sprintf(format, args...), true})
}

func (at place) warn(format string, args ...any) {
	at.problems = append(at.problems, Problem{at.source, at.part, at.key, fmt.Sprintf(format, args...), false})
}

// clip shortens what a message repeats.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}
