package show

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/multiplexer-cni/multiplexer/internal/demo/text"
)

// netDir is where the node has its networks for pods.
const netDir = "/etc/cni/multiplexer/net.d"

//go:embed networks
var files embed.FS

// Article is the network configuration in the article, as it is there.
func Article() ([]byte, error) { return files.ReadFile("networks/mynet.conf") }

// configure writes the examples' files for the node, and the VFs' networks.
func (s *show) configure() error {
	nodes := os.DirFS(filepath.Join(s.Root, "examples/cni/net.d"))
	if err := os.CopyFS(confDir, nodes); err != nil {
		return fmt.Errorf("copy examples/cni/net.d: %w; run `make demo-sriov` in the repository's root", err)
	}
	networks, err := fs.Sub(files, "networks")
	if err != nil {
		return err
	}
	if err = os.CopyFS(netDir, networks); err != nil {
		return fmt.Errorf("write %s: %w", netDir, err)
	}
	return nil
}

func (s *show) networks(context.Context) error {
	s.heading("The node: %d PFs with %d VFs each, and a network on each", len(s.pfs), vfsPerPF)
	for _, pf := range s.pfs {
		s.say("  echo %d >/sys/class/net/%s/device/sriov_numvfs   # PF %s", vfsPerPF, pf.Name, pf.PCI)
	}
	err := errors.Join(
		s.file("mynet.conf", "as it is in the article"),
		s.file("data.conf", "the other physical network, with a VLAN and an MTU"))
	s.say("\n  visitors.conf is the same subnet of the same PF, with VLAN 200.")
	return err
}

func (s *show) file(name, what string) error {
	raw, err := os.ReadFile(filepath.Join(netDir, name))
	if err != nil {
		return err
	}
	s.say("\n  %s, %s:\n\n%s", filepath.Join(netDir, name), what, text.Indent(string(raw), "    "))
	return nil
}
