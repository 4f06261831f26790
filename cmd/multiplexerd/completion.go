package main

import (
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/multiplexer-cni/multiplexer/pkg/agent"
	"github.com/multiplexer-cni/multiplexer/pkg/journal"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// completeOutput offers the values of -o.
func completeOutput(cmd *cobra.Command) {
	err := cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]cobra.Completion{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))
	if err != nil {
		panic(err) // the flag is there
	}
}

// completeValues offers the values of flags that take one of a few.
func completeValues(cmd *cobra.Command) {
	for flag, values := range map[string][]cobra.Completion{
		"runtime":    {network.Containerd, network.CRIO},
		"publish":    {agent.PublishMulti, agent.PublishAll, agent.PublishOff},
		"events":     {agent.EventsFailures, agent.EventsAll, agent.EventsNone},
		"log-level":  {"debug", "info", "warn", "error"},
		"log-format": {"text", "json"},
	} {
		if cmd.Flags().Lookup(flag) == nil {
			continue
		}
		if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
			panic(err) // nobody did it before
		}
	}
}

// completeJournals makes an argument one of those that the node's journals
// know: containers, or pods. An argument that is there already is not another.
func completeJournals(offer func(container string, c *journal.Contents) cobra.Completion) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		dir := completedDir(cmd)
		// Peek: a shell is interrupted at any instant, and must hold no lock then.
		store := &journal.Store{Dir: dir, Now: time.Now}
		containers, err := store.Containers()
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		var out []cobra.Completion
		for _, container := range containers {
			contents, rerr := store.Peek(container)
			if rerr != nil || !contents.Usable() {
				contents = &journal.Contents{}
			}
			if one := offer(container, contents); one != "" && strings.HasPrefix(one, begun) && !slices.Contains(out, one) {
				out = append(out, one)
			}
		}
		slices.Sort(out)
		return out, cobra.ShellCompDirectiveNoFileComp
	}
}

// completedDir is the plugin's directory that the command would look into.
func completedDir(cmd *cobra.Command) string {
	var f placeFlags
	for flag, value := range map[string]*string{"state-dir": &f.stateDir, "cni-conf-dir": &f.ConfDir, "cni-bin-dir": &f.BinDir, "runtime": &f.Runtime, "host-root": &f.root} {
		*value, _ = cmd.Flags().GetString(flag) // all who complete journals have them
	}
	dir, err := f.place()
	if err != nil {
		return network.DefaultStateDir
	}
	return dir
}

// completeContainers offers container IDs, with their pods.
func completeContainers() cobra.CompletionFunc {
	return completeJournals(func(container string, c *journal.Contents) cobra.Completion {
		return cobra.CompletionWithDesc(container, strings.TrimSpace(c.Header.Pod+" "+c.State()))
	})
}

// completePods offers NAMESPACE/POD.
func completePods() cobra.CompletionFunc {
	return completeJournals(func(_ string, c *journal.Contents) cobra.Completion { return c.Header.Pod })
}

// addLook adds what looks at a node and its pods, and gives the commands that
// show journals, or tables, what a shell can complete.
func addLook(root *cobra.Command) {
	for _, cmd := range root.Commands() {
		if cmd.Name() == "journal" {
			cmd.ValidArgsFunction = completeContainers()
		}
		if cmd.Flags().Lookup("output") != nil {
			completeOutput(cmd)
		}
	}
	root.AddCommand(doctorCommand(), explainCommand())
	for _, cmd := range root.Commands() {
		completeValues(cmd)
		if slices.Contains([]string{"journal", "vfs", "devices", "doctor", "explain"}, cmd.Name()) {
			likeTheAgent(cmd)
		}
	}
}
