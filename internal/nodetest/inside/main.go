// Inside is the only program of the image that nodetest's pods run, and the
// first process of each of its nodes.
//
//	inside       waits until it is told to end, and reaps what is left to it
//	inside show  writes its environment and "shown" to stdout, then waits
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
	if slices.Equal(os.Args[1:], []string{"show"}) {
		for _, variable := range slices.Sorted(slices.Values(os.Environ())) {
			fmt.Println(variable)
		}
		fmt.Println("shown")
	}
	for {
		if s := <-signals; s != unix.SIGCHLD {
			return
		}
		reap()
	}
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
