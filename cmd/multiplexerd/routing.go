package main

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/multiplexer-cni/multiplexer/pkg/journal"
	"github.com/multiplexer-cni/multiplexer/pkg/podns"
	"github.com/multiplexer-cni/multiplexer/pkg/routing"
)

// listRouting shows which NIC carries what, as the kernel has it now, and
// what is not as it was set.
func listRouting(out io.Writer, contents *journal.Contents) error {
	if contents.Routing == nil {
		return nil
	}
	var plan routing.Plan
	if err := json.Unmarshal(contents.Routing, &plan); err != nil {
		return fmt.Errorf("decode the routing plan: %w", err)
	}
	boot, err := podns.BootID("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return err
	}
	netns := contents.Header.Live(boot, "")
	if netns == "" {
		_, err = fmt.Fprintln(out, "\nThe namespace is gone, and its routes with it.")
		return err
	}
	pod, err := routing.OpenPod(netns)
	if err != nil {
		return err
	}
	defer pod.Close()
	shares, err := pod.Carried(&plan)
	if err != nil {
		return err
	}
	rows := [][]string{nil, routing.ShareHeader()}
	for i := range shares {
		rows = append(rows, shares[i].TableRow())
	}
	if err = table(out, rows); err != nil {
		return err
	}
	for _, w := range plan.Warnings {
		if _, err = fmt.Fprintln(out, "warning:", w); err != nil {
			return err
		}
	}
	if err = pod.Compare(&plan); err != nil {
		return fmt.Errorf("the namespace is not as it was set: %w", err)
	}
	return nil
}
