package sriovtest

import (
	"errors"
	"fmt"
	"strings"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// says fails unless an error is of a kind and has all these words.
func (b *Bed) says(err error, kind network.Kind, words ...string) {
	b.t.Helper()
	if !errors.Is(err, kind) {
		b.t.Errorf("%v: not of the kind %q", err, kind)
	}
	b.has(fmt.Sprint(err), words...)
}

func (b *Bed) has(text string, words ...string) {
	b.t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			b.t.Errorf("%q lacks %q", text, w)
		}
	}
}

// refusedAs fails unless an error is the kernel's.
func (b *Bed) refusedAs(err error, want unix.Errno) {
	b.t.Helper()
	if !errors.Is(err, want) {
		b.t.Errorf("%v, want %v", err, want)
	}
}

// expect fails unless something is what it should be.
func (b *Bed) expect(what string, has, want any) {
	b.t.Helper()
	if diff := cmp.Diff(want, has); diff != "" {
		b.t.Errorf("%s (-want +has):\n%s", what, diff)
	}
}
