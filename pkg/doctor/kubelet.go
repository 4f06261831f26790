package doctor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/kubelet"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// checkKubelet asks kubelet what the agent asks it, and looks for the
// directories where device plugins register. Only networks with devices, and
// the device plugin, need any of it.
func (s *sight) checkKubelet(ctx context.Context) []Finding {
	if s.config.AgentSocket == "" {
		return []Finding{na("agentSocket is \"\": devices cannot be handed out, and nobody asks kubelet for them")}
	}
	needed := s.needsDevices(ctx)
	devices := &kubelet.Resources{Socket: s.PodResources, Log: slog.New(slog.DiscardHandler)}
	defer func() { _ = devices.Close() }() // nothing was sent that could be lost
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	var wrong []Finding
	add := func(err error, what string) {
		f := warn("it is kubelet's own socket: see that kubelet runs, and that its directory is mounted", "%s%s", what, err)
		if needed != "" {
			f.State, f.What = Fail, fmt.Sprintf("%s: %s", f.What, needed+" need it")
		}
		wrong = append(wrong, f)
	}
	_, err := devices.Holders(ctx)
	if err != nil && s.absent() {
		return notHere()
	}
	if err != nil {
		add(err, "")
		return append(wrong, s.kubeletDirs()...)
	}
	if _, err = devices.Advertised(ctx); err != nil {
		state := Warn
		if !errors.Is(err, network.Unsupported) {
			state = Fail
		}
		wrong = append(wrong, Finding{state, err.Error(), "networks that name a PF instead of a resource then take any VF"})
	}
	get := "Get, List and GetAllocatableResources"
	if has, gerr := devices.HasGet(ctx); gerr == nil && !has {
		get = "List and GetAllocatableResources (not Get, which is on from Kubernetes 1.34: all pods are listed for each with devices)"
	} else if gerr != nil {
		add(gerr, "")
	}
	wrong = append(wrong, s.kubeletDirs()...)
	return orOK(wrong, "%s answers %s", s.PodResources, get)
}

// kubeletDirs looks for where the device plugin registers, if it is to.
func (s *sight) kubeletDirs() []Finding {
	if s.DeviceConfig == "" || !s.exists(s.DeviceConfig) {
		return nil
	}
	for _, dir := range []string{"plugins_registry", "device-plugins"} {
		if info, err := os.Stat(filepath.Join(s.KubeletDir, dir)); err == nil && info.IsDir() {
			return nil
		}
	}
	return []Finding{fail("mount them, or set --kubelet-dir to kubelet's --root-dir", "%s has neither plugins_registry nor device-plugins: no devices can be offered", s.KubeletDir)}
}

// needsDevices names what cannot do without kubelet, or "".
func (s *sight) needsDevices(ctx context.Context) string {
	var who []string
	for _, d := range s.definitions(ctx) {
		if d.resource != "" {
			who = append(who, d.name)
		}
	}
	if s.DeviceConfig != "" && s.exists(s.DeviceConfig) {
		who = append(who, "the resources of "+s.DeviceConfig)
	}
	if len(who) > 3 {
		who = append(who[:3], fmt.Sprintf("%d more", len(who)-3))
	}
	return strings.Join(who, ", ")
}
