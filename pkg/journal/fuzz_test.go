package journal

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Whatever a journal's bytes are: its whole lines come first, what counts
// survives being written again, and a shorter file never says more.
func FuzzDecodeLines(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		events, whole, damaged := decodeLines(data)
		if whole > len(data) || (whole > 0 && data[whole-1] != '\n') || bytes.Count(data[:whole], []byte("\n")) != len(events)+damaged {
			t.Fatalf("%d bytes of %d whole, %d events, %d damaged", whole, len(data), len(events), damaged)
		}
		var contents Contents
		var again []byte
		for _, e := range events {
			contents.apply(e)
			line, err := encodeLine(e)
			if err != nil {
				t.Fatal(err)
			}
			again = append(again, line...)
		}
		var rewritten Contents
		for _, e := range first(decodeLines(again)) {
			rewritten.apply(e)
		}
		if diff := cmp.Diff(contents, rewritten, cmp.AllowUnexported(Contents{})); diff != "" {
			t.Errorf("written again it says something else:\n%s", diff)
		}
		for _, r := range contents.Records {
			if r.Step == "" {
				t.Error("an attachment without a step")
			}
		}
		if less, _, _ := decodeLines(data[:len(data)/2]); len(less) > len(events) {
			t.Error("half of it says more than all of it")
		}
	})
}

func first(events []event, _, _ int) []event { return events }
