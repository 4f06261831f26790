package journal

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/podns"
)

// BootID returns the identity of this boot of the node, read from `path`
// (/proc/sys/kernel/random/boot_id). Namespaces and VF state end with it.
func BootID(path string) (string, error) {
	id, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read the boot id: %w", err)
	}
	return strings.TrimSpace(string(id)), nil
}

// Live returns the path under which the container's namespace can be reached
// now, or "" when it is gone: another boot, no such path, or another
// namespace at that path. `offered` is the path that the runtime names, which
// may differ from the one at ADD.
func (h *Header) Live(boot, offered string) string {
	if h.Boot == "" { // the first line was damaged: only the runtime knows
		if _, err := podns.Cookie(offered); err == nil {
			return offered
		}
		return ""
	}
	if h.Boot != boot {
		return ""
	}
	for _, path := range []string{offered, h.Netns} {
		if path == "" {
			continue
		}
		cookie, err := podns.Cookie(path)
		if cannotTell(err) || err == nil && (cookie == h.Cookie || h.Cookie == 0) {
			return path
		}
	}
	return ""
}

// cannotTell reports that a namespace could not be looked at for want of
// something: it counts as there, since what lives must not be released.
func cannotTell(err error) bool {
	for _, want := range []unix.Errno{unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.EPERM, unix.EACCES} {
		if errors.Is(err, want) {
			return true
		}
	}
	return false
}
