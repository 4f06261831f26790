// Command multiplexerd is the operator's tool on a node.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/multiplexer-cni/multiplexer/pkg/journal"
)

var version = "dev" // set by the linker

func main() {
	if err := command().Execute(); err != nil {
		os.Exit(1)
	}
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use:           "multiplexerd",
		Short:         "See what multiplexer did on this node",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: false,
	}
	root.AddCommand(journalCommand())
	return root
}

func journalCommand() *cobra.Command {
	var stateDir string
	cmd := &cobra.Command{
		Use:   "journal [CONTAINERID]",
		Short: "List the containers that hold networks, or the attachments of one",
		Example: `  multiplexerd journal
  multiplexerd journal 4c1f0e9d2b7a`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			store := &journal.Store{Dir: stateDir, Now: time.Now}
			if len(args) == 0 {
				return listContainers(cmd.OutOrStdout(), store)
			}
			return listAttachments(cmd.OutOrStdout(), store, args[0])
		},
	}
	cmd.Flags().StringVar(&stateDir, "state-dir", "/var/lib/cni/multiplexer", "stateDir of multiplexer's configuration")
	return cmd
}

func listContainers(out io.Writer, store *journal.Store) error {
	containers, err := store.Containers()
	if err != nil {
		return err
	}
	rows := [][]string{journal.TableHeader()}
	for _, container := range containers {
		contents, rerr := store.Read(container)
		if errors.Is(rerr, journal.ErrAbsent) {
			continue // released since
		}
		if rerr != nil {
			return fmt.Errorf("container %s: %w", container, rerr)
		}
		row := contents.TableRow()
		row[0] = container
		rows = append(rows, row)
	}
	return table(out, rows)
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
	_, err = fmt.Fprintln(out)
	if err != nil {
		return err
	}
	return table(out, rows)
}

func table(out io.Writer, rows [][]string) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		if _, err := fmt.Fprintln(w, strings.Join(row, "\t")); err != nil {
			return err
		}
	}
	return w.Flush()
}
