package multiplexer

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
)

// CNI_ARGS that are accepted mean the same when they are written again.
func FuzzParseArgs(f *testing.F) {
	f.Fuzz(func(t *testing.T, s string) {
		pairs, err := parseArgs(s)
		if err != nil {
			return
		}
		var text []string
		for _, kv := range pairs {
			if kv[0] == "" {
				t.Errorf("an empty key in %q", s)
			}
			text = append(text, kv[0]+"="+kv[1])
		}
		again, err := parseArgs(strings.Join(text, ";"))
		if err != nil || !slices.Equal(pairs, again) {
			t.Errorf("%q became %q (%v)", pairs, again, err)
		}
	})
}

// A DEL's error is never one that go-cni takes for success.
func FuzzPresentable(f *testing.F) {
	f.Fuzz(func(t *testing.T, msg, details string, code uint) {
		var e *types.Error
		if !errors.As(presentable(types.NewError(code, msg, details)), &e) {
			t.Fatal("the error is gone")
		}
		for _, phrase := range []string{"not found", "no such file or directory"} {
			if strings.Contains(e.Error(), phrase) {
				t.Errorf("%q", e.Error())
			}
		}
		if e.Code != code {
			t.Errorf("code %d became %d", code, e.Code)
		}
	})
}
