package doctor

import (
	"context"
	"errors"
	"strconv"

	"golang.org/x/sys/unix"
)

// checkKernel tries what is used where the kernel has it.
func (s *sight) checkKernel(context.Context) []Finding {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return []Finding{na("uname: %s", err)}
	}
	release := unix.ByteSliceToString(name.Release[:])
	has, err := cookies()
	switch {
	case err != nil:
		return []Finding{na("%s: whether namespaces have cookies cannot be tried: %s", release, err)}
	case !has:
		return []Finding{warn("upgrade to Linux 5.14 or later", "%s has no SO_NETNS_COOKIE: a namespace that was made anew at the path of one that is gone is taken for it", release)}
	}
	return []Finding{ok("%s, tells namespaces apart by cookie", release)}
}

// cookies tries the kernel with a socket of our own, for which no namespace
// has to be entered: in a container that would not be allowed.
func cookies() (bool, error) {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	defer func() { _ = unix.Close(socket) }() // nothing was sent
	cookie, err := unix.GetsockoptUint64(socket, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if errors.Is(err, unix.ENOPROTOOPT) {
		return false, nil
	}
	return cookie != 0, err
}

func natural(n int) string { return strconv.Itoa(n) }
