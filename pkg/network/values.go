package network

import (
	"bytes"
	"reflect"
	"strconv"
	"strings"
)

func or(s, unset string) string {
	if s == "" {
		return unset
	}
	return s
}

func deref[T any](s *T, unset T) T {
	if s == nil {
		return unset
	}
	return *s
}

// splitList splits Multus's comma-separated lists; blanks do not count.
func splitList(s string) []string {
	var out []string
	for item := range strings.SplitSeq(s, ",") {
		if item = strings.TrimSpace(item); item != "" {
			out = append(out, item)
		}
	}
	return out
}

func quoteAll(values []string) string {
	var quoted []string
	for _, v := range values {
		if v != "" {
			quoted = append(quoted, strconv.Quote(v))
		}
	}
	return strings.Join(quoted, ", ")
}

func isNull(raw []byte) bool {
	raw = bytes.TrimSpace(raw)
	return len(raw) == 0 || bytes.Equal(raw, []byte("null"))
}

// tagNames returns the JSON keys of a struct.
func tagNames(v any) map[string]bool {
	names := map[string]bool{}
	for field := range reflect.TypeOf(v).Fields() {
		key, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		names[key] = true
	}
	return names
}
