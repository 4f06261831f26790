package doctor

import (
	"os"
	"path/filepath"
	"slices"

	"github.com/multiplexer-cni/multiplexer/pkg/podns"
)

// life is what can be said of a pod's namespace from here.
type life int

const (
	gone    life = iota
	unknown      // the place where it would be cannot be seen
	lives
)

// life looks for a namespace where this process sees the node's directories.
func (s *sight) life(ref podns.Ref, boot string) life {
	if ref.Boot != boot {
		return gone // with the boot that it was of
	}
	places := podns.Places(s.Root, ref.Path)
	if ref.Live(boot, places...) != "" {
		return lives
	}
	if !podns.Visible(s.Root, ref.Path) {
		return unknown
	}
	// A container that mounts do not propagate into sees the file of a younger
	// namespace, and not the namespace on it.
	if filepath.Clean(s.Root) != "/" && slices.ContainsFunc(places, hasFile) && !slices.ContainsFunc(places, isNamespace) {
		return unknown
	}
	return gone
}

func hasFile(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// isNamespace reports whether a path leads to a namespace, be it another one.
func isNamespace(path string) bool {
	_, err := podns.Cookie(path)
	return err == nil
}
