package doctor

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/kubelet"
	"github.com/multiplexer-cni/multiplexer/pkg/podns"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// checkVFs names VFs that nobody can have.
func (s *sight) checkVFs(ctx context.Context) []Finding {
	inventory := s.VFs
	inventory.Allocated = s.allocated(ctx)
	var err error
	if inventory.Boot, err = podns.BootID(s.BootIDPath); err != nil {
		return []Finding{fail("mount the node's /proc", "%s", err)}
	}
	inventory.Lives = func(ref podns.Ref) bool { return s.life(ref, inventory.Boot) != gone }
	pfs, rows, err := inventory.Look()
	var wrong []Finding
	switch {
	case errors.Is(err, fs.ErrPermission):
		return []Finding{na("%s; run this as root", err)}
	case err != nil:
		wrong = append(wrong, warn("the text names the file", "%s", err))
	case len(pfs) == 0:
		return []Finding{na("this node has no network card that can have VFs")}
	}
	counts := map[sriov.State]int{}
	for i := range rows {
		counts[rows[i].State]++
		if f := judgeVF(&rows[i]); f != nil {
			wrong = append(wrong, *f)
		}
	}
	var parts []string
	for _, state := range sriov.States() {
		if n := counts[state]; n > 0 {
			parts = append(parts, natural(n)+" "+string(state))
		}
	}
	if len(parts) == 0 {
		parts = []string{"no VFs"}
	}
	return orOK(wrong, "%s, of %s", strings.Join(parts, ", "), strings.Join(pfs, ", "))
}

func judgeVF(row *sriov.VFRow) *Finding {
	name := "VF " + row.Index() + " of " + row.PF + " (" + row.PCI + ")"
	if row.VF < 0 {
		name = "PF " + row.PF + " (" + row.PCI + ")"
	}
	var f Finding
	switch row.State {
	case sriov.Quarantined:
		f = fail("correct what the reason names: it is tried again, and goes to nobody until then", "%s is quarantined: %s", name, row.Reason)
	case sriov.Leaked:
		f = warn("the plugin releases it with its next calls; see the journals", "%s is leaked: pod %s/%s has ended", name, row.Namespace, row.Pod)
	default:
		return nil
	}
	return &f
}

// allocated are the devices that kubelet gave away; nil where it does not say.
func (s *sight) allocated(ctx context.Context) map[string]string {
	if _, err := os.Stat(s.PodResources); err != nil {
		return nil
	}
	devices := &kubelet.Resources{Socket: s.PodResources, Log: slog.New(slog.DiscardHandler)}
	defer func() { _ = devices.Close() }() // nothing was sent that could be lost
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	holders, err := devices.Holders(ctx)
	if err != nil {
		return nil
	}
	return holders
}

// checkPFs names PFs with VFs that are down: their VFs have no link.
func (s *sight) checkPFs(context.Context) []Finding {
	pfs, err := s.VFs.Sys.PFs()
	if err != nil {
		return []Finding{na("%s", err)}
	}
	var wrong []Finding
	var seen []string
	for i := range pfs {
		pf := &pfs[i]
		if len(pf.VFs) == 0 || pf.Name == "" {
			continue
		}
		seen = append(seen, pf.Name)
		switch s.operstate(pf.Name) {
		case "down", "lowerlayerdown":
			wrong = append(wrong, warn("ip link set "+pf.Name+" up; if it is up, see to the cable and the switch", "PF %s is down: its %d VFs have no link", pf.Name, len(pf.VFs)))
		}
	}
	if len(seen) == 0 {
		return []Finding{na("no PF of this node has VFs")}
	}
	return orOK(wrong, "%s: up", strings.Join(seen, ", "))
}

// operstate is what the kernel says of a link of the node.
func (s *sight) operstate(link string) string {
	raw, err := os.ReadFile(filepath.Join(string(s.VFs.Sys), "class", "net", link, "operstate"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(raw))
}
