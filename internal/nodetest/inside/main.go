// Inside is the only program of the image that nodetest's pods run, and the
// first process of each of its nodes.
//
//	inside        waits until it is told to end, and reaps what is left to it
//	inside show   writes its NICs, "nic NAME ADDRESS ...", its environment and
//	              "shown" to stdout, then waits
//	inside serve  answers at port 8080 who asked whom, see serve, and waits
//	inside ask    asks the API server for its own pod, see ask, and ends
package main

import (
	"fmt"
	"os"
	"os/signal"
	"slices"

	"golang.org/x/sys/unix"
)

func main() {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, unix.SIGCHLD, unix.SIGINT, unix.SIGTERM)
	switch {
	case len(os.Args) == 1:
	case slices.Equal(os.Args[1:], []string{"show"}):
		show()
	case slices.Equal(os.Args[1:], []string{"serve"}):
		fail(serve())
	case slices.Equal(os.Args[1:], []string{"ask"}):
		fail(ask())
		return
	default:
		fail(fmt.Errorf("unknown arguments %q", os.Args[1:]))
	}
	for {
		if s := <-signals; s != unix.SIGCHLD {
			return
		}
		reap()
	}
}

func fail(err error) {
	if err != nil {
		fmt.Println("inside:", err)
		os.Exit(1)
	}
}

func show() {
	showNICs()
	for _, variable := range slices.Sorted(slices.Values(os.Environ())) {
		fmt.Println(variable)
	}
	fmt.Println("shown")
}

// reap waits for every child that has ended: of several that end at once, one
// signal may be all that is heard.
func reap() {
	for {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		if err != nil || pid <= 0 {
			return
		}
	}
}
