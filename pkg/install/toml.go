package install

import (
	"github.com/pelletier/go-toml/v2"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// table is a TOML table as it is written. Runtimes have more keys than we
// know, so it is walked and not decoded.
type table map[string]any

func (h host) readTOML(path string) (table, error) {
	raw, err := h.read(path)
	if err != nil {
		return nil, err
	}
	var t table
	if err = toml.Unmarshal(raw, &t); err != nil {
		return nil, network.Malformed.Errorf("%s: %w", path, err)
	}
	return t, nil
}

// in returns the table at a path of keys; an empty one where there is none.
func (t table) in(path ...string) table {
	for _, key := range path {
		t, _ = t[key].(map[string]any)
	}
	return t
}

func (t table) text(key string) string {
	s, _ := t[key].(string)
	return s
}

func (t table) texts(key string) []string {
	list, _ := t[key].([]any)
	var out []string
	for _, v := range list {
		if s, ok := v.(string); ok && s != "" {
			out = append(out, s)
		}
	}
	return out
}
