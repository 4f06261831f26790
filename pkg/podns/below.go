package podns

import (
	"os"
	"path/filepath"
	"strings"
)

// mostLinks bounds the links of one path, as the kernel does (ELOOP).
const mostLinks = 40

// Below returns where a process that sees the node's root directory at `root`
// finds a path of the node. Absolute links lead below root, as they would after
// chroot: a node's /var/run is often a link to /run, and not to the /run of the
// container that the process is in. What does not exist is taken as it is.
func Below(root, path string) string {
	root = filepath.Join("/", root)
	if root == "/" {
		return filepath.Join("/", path)
	}
	at := "/"
	rest := strings.Split(path, "/")
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		next := filepath.Join(at, name) // ".." ends at the root
		target, err := os.Readlink(filepath.Join(root, next))
		if err != nil || next == "/" || links == mostLinks {
			at = next
			continue
		}
		links++
		if filepath.IsAbs(target) {
			at = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return filepath.Join(root, at)
}

// Places are where a namespace that the runtime knows as `netns` may be seen
// below root, at least one.
func Places(root, netns string) []string {
	places := []string{Below(root, netns)}
	if short, long := strings.CutPrefix(netns, "/var/run/"); long {
		places = append(places, Below(root, "/run/"+short)) // a container has no link between the two
	}
	return places
}

// Visible reports whether the directory of a namespace can be seen below root.
// Where it cannot, that the namespace is missing says nothing of the pod.
func Visible(root, netns string) bool {
	for _, place := range Places(root, netns) {
		if info, err := os.Stat(filepath.Dir(place)); err == nil && info.IsDir() {
			return true
		}
	}
	return false
}
