package kubetest

import (
	"fmt"
	"os"
)

// Exit ends a test process from its TestMain: with the tests' code, and never
// with 0 when something around them failed.
func Exit(code int, err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}
