package doctor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"time"
)

// checkPlugin runs the plugin for its version.
func (s *sight) checkPlugin(ctx context.Context) []Finding {
	if s.pathsErr != nil {
		return []Finding{na("the runtime's directory is not known")}
	}
	path := s.pluginPath()
	const remedy = "run multiplexerd install, or set --cni-bin-dir to the runtime's directory"
	version, err := PluginVersion(ctx, s.at(path))
	switch {
	case errors.Is(err, fs.ErrNotExist) && s.uninstalled():
		return []Finding{na("it was uninstalled: see conf")}
	case errors.Is(err, fs.ErrNotExist) && s.absent():
		return notHere()
	case errors.Is(err, fs.ErrNotExist):
		return []Finding{fail(remedy, "%s is missing: no pod can start", path)}
	case err != nil:
		return []Finding{fail("see that the directory is not mounted noexec, and that the file is built for this machine; "+remedy, "%s cannot be run: %s", path, err)}
	case version != s.Version:
		return []Finding{warn("see that the DaemonSet's rollout has ended, or run multiplexerd install", "%s is version %q, this tool %q", path, version, s.Version)}
	}
	return []Finding{ok("%s, version %s", path, version)}
}

// PluginVersion asks the executable: without a verb, it says what it is.
func PluginVersion(ctx context.Context, path string) (string, error) {
	if _, err := os.Stat(path); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path)
	cmd.Env = []string{} // not ours: it could hold a verb
	cmd.WaitDelay = time.Second
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil {
		return "", err
	}
	first, _, _ := strings.Cut(said.String(), "\n")
	version, is := strings.CutPrefix(first, "CNI plugin multiplexer ")
	if !is {
		return "", fmt.Errorf("it does not say that it is multiplexer, but %q", first)
	}
	return strings.TrimSpace(version), nil
}
