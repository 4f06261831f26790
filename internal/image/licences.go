package main

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/multiplexer-cni/multiplexer/internal/ociarchive"
)

// licenceFile is what a licence, a notice or a grant of patents is called.
func licenceFile() *regexp.Regexp {
	return regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents)([.-].*)?$`)
}

// licences are the texts of all modules that are linked into programs, which
// those modules ask to be handed on.
func (o options) licences(ctx context.Context, programs []string) ([]ociarchive.File, error) {
	dirs, err := o.modules(ctx, programs)
	if err != nil {
		return nil, err
	}
	var files []ociarchive.File
	for module, dir := range dirs {
		found, ferr := textsOf(module, dir)
		if ferr != nil {
			return nil, ferr
		}
		files = append(files, found...)
	}
	return files, nil
}

func textsOf(module, dir string) ([]ociarchive.File, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("licence of %s: %w", module, err)
	}
	var files []ociarchive.File
	for _, e := range entries {
		if !e.Type().IsRegular() || !licenceFile().MatchString(e.Name()) {
			continue
		}
		content, rerr := os.ReadFile(filepath.Join(dir, e.Name()))
		if rerr != nil {
			return nil, fmt.Errorf("licence of %s: %w", module, rerr)
		}
		files = append(files, ociarchive.File{Path: path.Join("licenses", module, e.Name()), Mode: 0o644, Content: content})
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s has no licence in %s: it cannot be handed on", module, dir)
	}
	return files, nil
}

// modules returns where the sources of the modules are, by name and version.
func (o options) modules(ctx context.Context, programs []string) (map[string]string, error) {
	goroot, err := o.output(ctx, "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	dirs := map[string]string{"multiplexer": o.dir, "go": strings.TrimSpace(string(goroot))}
	args := []string{"mod", "download", "-json"}
	for _, program := range programs {
		info, rerr := buildinfo.ReadFile(program)
		if rerr != nil {
			return nil, rerr
		}
		for _, dep := range info.Deps {
			if dep.Replace != nil {
				dep = dep.Replace
			}
			args = append(args, dep.Path+"@"+dep.Version)
		}
	}
	listed, err := o.output(ctx, args...)
	if err != nil {
		return nil, err
	}
	for decoder := json.NewDecoder(bytes.NewReader(listed)); ; {
		var m struct{ Path, Version, Dir string }
		if err = decoder.Decode(&m); errors.Is(err, io.EOF) {
			return dirs, nil
		} else if err != nil {
			return nil, fmt.Errorf("go mod download: %w", err)
		}
		dirs[m.Path+"@"+m.Version] = m.Dir
	}
}

func (o options) output(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Stderr = o.dir, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s: %w", args[0], err)
	}
	return out, nil
}
