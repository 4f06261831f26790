package podns

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
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

// Ref says which namespace was meant. A path alone may lead to another one
// later.
type Ref struct {
	Path   string `json:"netns,omitempty"`
	Cookie uint64 `json:"cookie,omitempty"` // SO_NETNS_COOKIE; 0 where the kernel has none
	Boot   string `json:"boot,omitempty"`
}

// Live returns the path under which the namespace can be reached now, or ""
// when it is gone: another boot, no such path, or another namespace at that
// path. `offered` are paths to try first, such as the runtime's, which may
// differ from the one at ADD.
func (r Ref) Live(boot string, offered ...string) string {
	if r.Boot != boot {
		return ""
	}
	paths := offered
	if r.Path != "" {
		paths = append(offered[:len(offered):len(offered)], Places("/", r.Path)...)
	}
	for _, path := range paths {
		if path == "" {
			continue
		}
		cookie, err := Cookie(path)
		if cannotTell(err) || err == nil && (cookie == r.Cookie || r.Cookie == 0) {
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
