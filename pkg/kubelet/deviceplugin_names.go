package kubelet

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

const (
	watcherDir  = "plugins_registry" // of KubeletDir: its plugin watcher looks here
	registerDir = "device-plugins"   // of KubeletDir: its Register service is here
	registerAt  = "kubelet.sock"     // in registerDir

	socketPrefix = "multiplexer-"
	socketSuffix = ".sock"
	// newPrefix is of a socket that is not ready. Kubelet ignores dots.
	newPrefix = ".multiplexer-"

	maxSocketPath = 107 // bytes of a unix socket's path in Linux, without the zero
	tagLength     = 8
)

// validateResource accepts what kubelet does: an extended resource.
func validateResource(name string) error {
	if !strings.Contains(name, "/") || strings.Contains(name, "kubernetes.io/") || strings.HasPrefix(name, "requests.") {
		return network.Invalid.Errorf("resource %q: want a prefix that is a domain of the vendor, a slash and a name, as in intel.com/sriov", name)
	}
	// Kubelet checks it with the prefix that quotas put before it.
	if wrong := validation.IsQualifiedName("requests." + name); len(wrong) > 0 {
		return network.Invalid.Errorf("resource %q: %s", name, strings.Join(wrong, "; "))
	}
	return nil
}

// socketName is the name of a resource's socket in dir, shortened to a hash
// when the path would be too long. A tag makes it one of several.
func socketName(dir, resource, tag string) (string, error) {
	if tag != "" {
		tag = "-" + tag
	}
	// A resource's prefix has no "_".
	name := socketPrefix + strings.Replace(resource, "/", "_", 1) + tag + socketSuffix
	room := maxSocketPath - len(dir) - len("/")
	if len(name) > room {
		sum := sha256.Sum256([]byte(resource))
		name = socketPrefix + hex.EncodeToString(sum[:8]) + tag + socketSuffix
	}
	if longest := max(len(name), len(newPrefix)+tagLength); longest > room {
		return "", network.Invalid.Errorf("kubelet's directory %s is too long for a socket in it: the path would have %d bytes, at most %d are possible; mount it at a shorter path",
			filepath.Dir(dir), len(dir)+len("/")+longest, maxSocketPath)
	}
	return name, nil
}

// newTag is different each time, in other processes too.
func newTag() string {
	raw := make([]byte, tagLength/2)
	_, _ = rand.Read(raw) // it never fails
	return hex.EncodeToString(raw)
}
