package resource

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
)

// fields are an object's members by their proper keys, those of null left out.
type fields map[string]json.RawMessage

// stray is a member that has no place in fields.
type stray struct {
	key   string
	twice string // the known key that it repeats, as it stood there; "" = it is unknown
}

// object reads an object. Keys are known in any case, as encoding/json and so
// sriov-network-device-plugin takes them. What is no object is refused.
func (at place) object(raw json.RawMessage, known []string) (found fields, strays []stray) {
	if kindOf(raw) != anObject {
		at.refuse("is %s, want an object", kindOf(raw))
		return nil, nil
	}
	return sorted(raw, known)
}

// sorted tells the members of an object that are known from those that are not.
func sorted(raw json.RawMessage, known []string) (found fields, strays []stray) {
	found = fields{}
	seen := map[string]string{}
	for _, m := range members(raw) {
		i := slices.IndexFunc(known, func(k string) bool { return strings.EqualFold(k, m.key) })
		if i < 0 {
			strays = append(strays, stray{key: m.key})
			continue
		}
		proper := known[i]
		first, twice := seen[proper]
		seen[proper] = m.key
		switch {
		case twice:
			strays = append(strays, stray{key: m.key, twice: first})
		case kindOf(m.value) != aNull:
			found[proper] = m.value
		}
	}
	return found, strays
}

type member struct {
	key   string
	value json.RawMessage
}

// members splits an object that is valid JSON, in its own order. Unlike a
// map, they show keys that stand twice.
func members(raw json.RawMessage) []member {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	if _, err := decoder.Token(); err != nil { // the brace
		return nil
	}
	var all []member
	for decoder.More() {
		token, err := decoder.Token()
		key, isKey := token.(string)
		m := member{key: key}
		if err != nil || !isKey || decoder.Decode(&m.value) != nil {
			return all
		}
		all = append(all, m)
	}
	return all
}

// say tells what is wrong with a stray.
func (s stray) say(known []string) string {
	if s.twice == s.key {
		return "stands twice: keep one"
	}
	if s.twice != "" {
		return "stands twice, also as " + quote(s.twice) + ": keep one"
	}
	if near := Nearest(s.key, known); near != "" {
		return "is no key here: is " + quote(near) + " meant?"
	}
	return "is no key here: want one of " + strings.Join(known, ", ")
}

// The kinds of JSON values, as messages name them.
const (
	anObject = "an object"
	anArray  = "an array"
	aNull    = "null"
)

func kindOf(raw json.RawMessage) string {
	trimmed := bytes.TrimLeft(raw, " \t\r\n")
	if len(trimmed) == 0 {
		return "nothing"
	}
	switch trimmed[0] {
	case '{':
		return anObject
	case '[':
		return anArray
	case '"':
		return "a string"
	case 't', 'f':
		return "true or false"
	case 'n':
		return aNull
	}
	return "a number"
}

// get reads a member; `want` names its kind. false: it is absent or refused.
func get[T any](at place, f fields, key, want string) (value T, ok bool) {
	raw, ok := f[key]
	if !ok {
		return value, false
	}
	if err := json.Unmarshal(raw, &value); err != nil {
		at.in(key).refuse("is %s, want %s", plain(string(raw)), want)
		var zero T
		return zero, false
	}
	return value, true
}

func (at place) text(f fields, key string) string {
	value, _ := get[string](at, f, key, "a string")
	return value
}

func (at place) flag(f fields, key string) bool {
	value, _ := get[bool](at, f, key, "true or false")
	return value
}

// number reads an integer, 0 if there is none.
func (at place) number(f fields, key string, low, high int) int {
	value, ok := get[int](at, f, key, "an integer")
	if ok && (value < low || value > high) {
		at.in(key).refuse("%d: want %d to %d", value, low, high)
		return 0
	}
	return value
}

// list reads an array of strings; `check` brings an element to its proper
// form, or says what it should be.
func (at place) list(f fields, key string, check func(string) (proper, want string)) []string {
	values, ok := get[[]string](at, f, key, "an array of strings")
	at = at.in(key)
	if ok && len(values) == 0 {
		at.warn("is empty, which is as if it were absent: name what is to be selected, or remove the key")
	}
	var proper []string
	for i, value := range values {
		p, want := check(value)
		if want != "" {
			at.item(i).refuse("%s: want %s", quote(value), want)
			continue
		}
		proper = append(proper, p)
	}
	return proper
}
