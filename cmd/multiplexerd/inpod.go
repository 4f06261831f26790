package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// inPod reports whether this process runs in a container of a pod, which sees
// of the node only the directories that are mounted into it.
func inPod() bool { return os.Getenv("KUBERNETES_SERVICE_HOST") != "" }

// likeTheAgent makes a command look where the agent does whose container it
// runs in: flags that are not given are those of the container's first process.
func likeTheAgent(cmd *cobra.Command) {
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		if !inPod() {
			return nil
		}
		first, err := os.ReadFile("/proc/1/cmdline")
		if err != nil {
			return nil // then all flags have to be given
		}
		return takeFlags(cmd.Flags(), strings.Split(string(bytes.TrimRight(first, "\x00")), "\x00"))
	}
}

// takeFlags sets flags that are not given as a command line of multiplexerd
// run has them. Any other command line has nothing to say.
func takeFlags(flags *pflag.FlagSet, line []string) error {
	if len(line) < 2 || filepath.Base(line[0]) != "multiplexerd" || line[1] != "run" {
		return nil
	}
	agents := runCommand().Flags()
	if err := agents.Parse(line[2:]); err != nil {
		return nil // an agent of another version
	}
	var err error
	agents.Visit(func(given *pflag.Flag) {
		if own := flags.Lookup(given.Name); own != nil && !own.Changed && err == nil {
			if err = flags.Set(given.Name, given.Value.String()); err != nil {
				err = fmt.Errorf("--%s as the agent has it: %w", given.Name, err)
			}
		}
	})
	return err
}

// unseen says of a path of the node whether it cannot be seen from here; nil
// where all can be.
func (f *nodeFlags) unseen() func(path string) bool {
	if !inPod() || filepath.Clean(f.root) != "/" {
		return nil
	}
	raw, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	mounts := mountPoints(string(raw))
	return func(path string) bool {
		return !slices.ContainsFunc(mounts, func(m string) bool {
			return strings.HasPrefix(filepath.Clean(path)+"/", m+"/")
		})
	}
}

// mountPoints are those of /proc/self/mountinfo, less the root.
func mountPoints(mountinfo string) []string {
	var out []string
	for line := range strings.Lines(mountinfo) {
		if fields := strings.Fields(line); len(fields) > 4 && fields[4] != "/" {
			out = append(out, fields[4])
		}
	}
	return out
}
