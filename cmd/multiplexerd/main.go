// Command multiplexerd is the node's agent and the operator's tool.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/multiplexer-cni/multiplexer/pkg/journal"
)

var version = "dev" // set by the linker

func main() {
	root := command()
	root.SetErr(plainly{os.Stderr})
	if err := root.Execute(); err != nil {
		os.Exit(1)
	}
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use:           "multiplexerd",
		Short:         "The agent of a node, and a look at what multiplexer did there",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: false,
	}
	root.AddCommand(runCommand(), journalCommand(), vfsCommand(), devicesCommand(), installCommand(), uninstallCommand(), migrateCommand(), versionCommand(), pauseCommand(), awaitCommand())
	addLook(root)
	return root
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version, as --version does",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s version %s\n", cmd.Root().Name(), version)
			return err
		},
	}
}

func journalCommand() *cobra.Command {
	f := &placeFlags{}
	cmd := &cobra.Command{
		Use:   "journal [CONTAINERID]",
		Short: "List the containers that hold networks, or the attachments of one",
		Long: `List the containers that hold networks on this node, or the attachments of one.
The beginning of a container ID will do.`,
		Example: `  multiplexerd journal
  multiplexerd journal 4c1f0e9d2b7a`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := f.place()
			if err != nil {
				return err
			}
			store := &journal.Store{Dir: dir, Now: time.Now}
			if len(args) == 0 {
				return listContainers(cmd.OutOrStdout(), store)
			}
			container, err := whole(store, args[0])
			if err != nil {
				return err
			}
			return listAttachments(cmd.OutOrStdout(), store, container)
		},
	}
	f.add(cmd.Flags())
	return cmd
}

func listContainers(out io.Writer, store *journal.Store) error {
	if _, err := os.Stat(store.Dir); err != nil {
		return fmt.Errorf("%w: nothing was attached on this node yet, or its stateDir is another one (--state-dir)", err)
	}
	containers, err := store.Containers()
	if err != nil {
		return err
	}
	rows := [][]string{journal.TableHeader()}
	var unreadable []error
	for _, container := range containers {
		contents, readErr := store.Read(container)
		switch {
		case errors.Is(readErr, journal.ErrAbsent): // released since
		case readErr != nil:
			unreadable = append(unreadable, fmt.Errorf("container %s: %w", container, readErr))
		default:
			row := contents.TableRow()
			row[0] = container
			rows = append(rows, row)
		}
	}
	return errors.Join(table(out, rows), errors.Join(unreadable...))
}

// whole completes the beginning of a container ID, as crictl prints it.
func whole(store *journal.Store, beginning string) (string, error) {
	containers, err := store.Containers()
	if err != nil {
		return "", err
	}
	matches := slices.DeleteFunc(containers, func(c string) bool { return !strings.HasPrefix(c, beginning) })
	switch len(matches) {
	case 0:
		return "", fmt.Errorf("container %s: %w", beginning, journal.ErrAbsent)
	case 1:
		return matches[0], nil
	}
	if slices.Contains(matches, beginning) {
		return beginning, nil
	}
	return "", fmt.Errorf("container %s: %d containers begin so: %s", beginning, len(matches), strings.Join(matches, ", "))
}

func listAttachments(out io.Writer, store *journal.Store, container string) error {
	contents, err := store.Read(container)
	if err != nil {
		return fmt.Errorf("container %s: %w", container, err)
	}
	rows := [][]string{journal.RecordHeader()}
	for i := range contents.Records {
		rows = append(rows, contents.Records[i].TableRow())
	}
	if err = table(out, [][]string{journal.TableHeader(), contents.TableRow()}); err != nil {
		return err
	}
	if _, err = fmt.Fprintln(out); err != nil {
		return err
	}
	return errors.Join(table(out, rows), listRouting(out, contents))
}

// table prints rows in columns. Names of devices and texts of configurations
// may hold anything: what a terminal would obey is a question mark.
func table(out io.Writer, rows [][]string) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		line := make([]string, len(row))
		for i, cell := range row {
			line[i] = strings.Map(visible, cell)
		}
		if _, err := fmt.Fprintln(w, strings.Join(line, "\t")); err != nil {
			return err
		}
	}
	return w.Flush()
}

// lines is a text of several lines that no terminal obeys: what plugins say
// can repeat what a definition's author wrote.
func lines(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return r
		}
		return visible(r)
	}, text)
}

// plainly writes lines.
type plainly struct{ io.Writer }

func (w plainly) Write(p []byte) (int, error) {
	if _, err := io.WriteString(w.Writer, lines(string(p))); err != nil {
		return 0, err
	}
	return len(p), nil
}

func visible(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return '?'
}
