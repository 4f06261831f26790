package provision

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/lockfile"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// udevSettles is how long udev may take to see a new rule: it looks for some
// every three seconds at most.
const udevSettles = 3500 * time.Millisecond

func (p *Provisioner) rulePath(pci string) string {
	return filepath.Join(p.UdevDir, "90-multiplexer-"+pci+".rules")
}

// rule tells NetworkManager to leave a PF's VFs alone, whatever they are
// called. udev finds them by the PF that they name as theirs.
func rule(pci string) []byte {
	return fmt.Appendf(nil, `# Written by multiplexer, which gives the VFs of this PF to pods, and removed by it.
ACTION!="remove", SUBSYSTEM=="net", ATTRS{physfn/uevent}=="*PCI_SLOT_NAME=%s*", ENV{NM_UNMANAGED}="1"
`, pci)
}

// hasNM reports whether the node has NetworkManager.
func (p *Provisioner) hasNM() bool {
	if p.UdevDir == "" || p.NMDir == "" {
		return false
	}
	info, err := os.Stat(p.NMDir)
	return err == nil && info.IsDir()
}

// tellNM tells NetworkManager, before there are VFs that it could take.
func (j *job) tellNM(ctx context.Context) error {
	if !j.hasNM() || j.wish.NumVFs == 0 {
		return nil
	}
	path, text := j.rulePath(j.pci), rule(j.pci)
	if old, err := os.ReadFile(path); err != nil || !bytes.Equal(old, text) {
		if err = os.Mkdir(j.UdevDir, 0o755); err == nil || errors.Is(err, fs.ErrExist) {
			err = lockfile.Replace(path, text, 0o644) // as every rule: the node's users may ask udev why
		}
		if err != nil {
			return network.IO.Errorf("tell NetworkManager to leave the VFs of PF %s: %w", j.pci, err)
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		return network.IO.Errorf("udev's rule for the VFs of PF %s: %w", j.pci, err)
	}
	left := time.Until(info.ModTime().Add(udevSettles))
	if left <= 0 || left > udevSettles { // the clock was set
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(left):
		return nil
	}
}

// untellNM takes the rule back.
func (j *job) untellNM() error {
	if j.UdevDir == "" {
		return nil
	}
	if err := os.Remove(j.rulePath(j.pci)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return network.IO.Errorf("remove udev's rule for the VFs of PF %s: %w", j.pci, err)
	}
	return nil
}
