package network

import (
	"encoding/json"
	"errors"
	"fmt"
)

// Kind says what sort of thing went wrong. Rooms return errors of a Kind;
// the verbs choose the CNI error code for it in one place.
type Kind string

// The kinds of errors a caller decides on.
const (
	// Invalid: a configuration, definition or annotation is wrong.
	Invalid Kind = "invalid configuration"
	// Malformed: bytes that are no JSON, or JSON of another shape.
	Malformed Kind = "malformed data"
	// Again: not now, but a later try may succeed.
	Again Kind = "try again later"
	// IO: a file or directory of the node cannot be read or written.
	IO Kind = "input/output failure"
	// Environment: a CNI_* variable is missing or wrong.
	Environment Kind = "invalid environment"
	// Unsupported: a version that this build does not speak.
	Unsupported Kind = "unsupported version"
	// BadNetns: CNI_NETNS is no network namespace that a pod can have.
	BadNetns Kind = "invalid network namespace"
	// Unknown: the container is not known.
	Unknown Kind = "unknown container"
	// Missing: the node's state is not what a result promised (CHECK).
	Missing Kind = "missing"
)

// Error makes a Kind itself an error, so that errors.Is(err, Invalid) asks.
func (k Kind) Error() string { return string(k) }

// Errorf returns an error of this kind. Its text is the formatted message
// alone; %w keeps a cause reachable.
func (k Kind) Errorf(format string, args ...any) error {
	return &kindError{kind: k, err: fmt.Errorf(format, args...)}
}

type kindError struct {
	kind Kind
	err  error
}

func (e *kindError) Error() string   { return e.err.Error() }
func (e *kindError) Unwrap() []error { return []error{e.kind, e.err} }

// decodeError turns an encoding/json error about `what` (a file, a field)
// into one that names the field and says what was expected.
func decodeError(what string, err error) error {
	var wrongType *json.UnmarshalTypeError
	if errors.As(err, &wrongType) && wrongType.Field != "" {
		return Invalid.Errorf("%s: field %q is a JSON %s, want %s",
			what, wrongType.Field, wrongType.Value, jsonName(wrongType.Type.Kind().String()))
	}
	if errors.As(err, &wrongType) {
		return Malformed.Errorf("%s: is a JSON %s, want %s",
			what, wrongType.Value, jsonName(wrongType.Type.Kind().String()))
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return Malformed.Errorf("%s: not valid JSON at byte %d: %w", what, syntax.Offset, err)
	}
	return Malformed.Errorf("%s: %w", what, err)
}

// jsonName says in JSON's words what a Go kind is written as.
func jsonName(kind string) string {
	switch kind {
	case "slice", "array":
		return "an array"
	case "map", "struct":
		return "an object"
	case "bool":
		return "true or false"
	case "string":
		return "a string"
	default:
		return "a number"
	}
}
