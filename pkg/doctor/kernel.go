package doctor

import (
	"context"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/podns"
)

// checkKernel tries what is used where the kernel has it.
func (s *sight) checkKernel(context.Context) []Finding {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return []Finding{na("uname: %s", err)}
	}
	release := unix.ByteSliceToString(name.Release[:])
	cookie, err := podns.Cookie("/proc/self/ns/net")
	switch {
	case err != nil:
		return []Finding{na("%s: whether namespaces have cookies cannot be tried: %s", release, err)}
	case cookie == 0:
		return []Finding{warn("upgrade to Linux 5.14 or later", "%s has no SO_NETNS_COOKIE: a namespace that was made anew at the path of one that is gone is taken for it", release)}
	}
	return []Finding{ok("%s, tells namespaces apart by cookie", release)}
}

func natural(n int) string { return strconv.Itoa(n) }
