package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/multiplexer-cni/multiplexer/pkg/install"
)

func migrateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "migrate FILE",
		Short: "Make options for install of a Multus configuration",
		Long: `Make options for install of a Multus configuration: the conf or conflist of the
thin plugin or of multus-shim, or the daemon's daemon-config.json; "-" reads it
from standard input. What has no effect, or changes, is said on standard error;
what cannot be taken over is an error that says what to do by hand. No file is
written.`,
		Example: `  multiplexerd migrate /etc/cni/net.d/00-multus.conf >options.json
  kubectl -n kube-system get configmap multus-daemon-config -o jsonpath='{.data.daemon-config\.json}' | multiplexerd migrate -`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("%d arguments: want migrate FILE, or - for stdin", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			conf, err := readConf(cmd.InOrStdin(), args[0])
			if err != nil {
				return err
			}
			options, warnings, err := install.Migrate(conf, args[0])
			if err != nil {
				return err
			}
			for _, w := range warnings {
				if _, err = fmt.Fprintln(cmd.ErrOrStderr(), w); err != nil {
					return err
				}
			}
			_, err = cmd.OutOrStdout().Write(options)
			return err
		},
	}
}

func readConf(stdin io.Reader, path string) ([]byte, error) {
	if path == "-" {
		return io.ReadAll(stdin)
	}
	return os.ReadFile(path)
}
