package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// placeFlags say where the plugin's directory is: given, or as the
// configuration on the node says.
type placeFlags struct {
	nodeFlags
	stateDir string
}

func (f *placeFlags) add(flags *pflag.FlagSet) {
	f.nodeFlags.add(flags)
	flags.StringVar(&f.stateDir, "state-dir", "", "stateDir of multiplexer's configuration; without it, what the installed configuration says")
}

// where is where this process sees the plugin's directory.
func (f *placeFlags) where(config *network.Config) string {
	if f.stateDir != "" {
		return f.at(f.stateDir)
	}
	return f.at(config.StateDir)
}

// seen is at for a file that need not be named, or that may be one beside us.
func (f *placeFlags) seen(path string) string {
	if !filepath.IsAbs(path) {
		return path
	}
	return f.at(path)
}

// place is where, by what is on the node. A directory that is given has to be
// there.
func (f *placeFlags) place() (string, error) {
	if err := f.detectable(); err != nil {
		return "", err
	}
	if f.stateDir != "" {
		if _, err := os.Stat(f.seen(f.stateDir)); err != nil {
			return "", fmt.Errorf("%w; --state-dir has to be stateDir of multiplexer's configuration", err)
		}
		return f.seen(f.stateDir), nil
	}
	config, err := f.configuration()
	if err != nil {
		return "", fmt.Errorf("find stateDir of multiplexer's configuration: %w; name it with --state-dir", err)
	}
	return f.where(config), nil
}
