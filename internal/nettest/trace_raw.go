package nettest

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

func ptrace(request, tid int, addr, data uintptr) error {
	if _, _, errno := unix.Syscall6(unix.SYS_PTRACE, uintptr(request), uintptr(tid), addr, data, 0, 0); errno != 0 {
		return fmt.Errorf("ptrace request %#x: %w", request, errno)
	}
	return nil
}

// getSyscallInfo says which call a thread is at, whatever the processor
// (kernel 5.3).
func getSyscallInfo(tid int) (syscallInfo, error) {
	var info syscallInfo
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_GET_SYSCALL_INFO, uintptr(tid), unsafe.Sizeof(info), uintptr(unsafe.Pointer(&info)), 0, 0)
	if errno != 0 {
		return info, fmt.Errorf("ptrace syscall info: %w", errno)
	}
	return info, nil
}
