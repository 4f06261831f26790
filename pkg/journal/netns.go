package journal

import "github.com/multiplexer-cni/multiplexer/pkg/podns"

// Live returns the path under which the container's namespace can be reached
// now, or "" when it is gone. `offered` is the path that the runtime names.
func (h *Header) Live(boot, offered string) string {
	if h.Boot == "" { // the first line was damaged: only the runtime knows
		if _, err := podns.Cookie(offered); err == nil {
			return offered
		}
		return ""
	}
	return h.Ref().Live(boot, offered)
}

// Ref is the container's namespace as ADD recorded it.
func (h *Header) Ref() podns.Ref { return podns.Ref{Path: h.Netns, Cookie: h.Cookie, Boot: h.Boot} }
