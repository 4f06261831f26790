package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// build builds a program. What the user's environment says of builds does not
// count: the result depends on the sources and the toolchain alone.
func (o options) build(ctx context.Context, arch, to string) error {
	if arch != "amd64" && arch != "arm64" {
		return fmt.Errorf("-arch %q: want amd64, arm64 or both with a comma between", arch)
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w -X main.version="+o.version, "-o", to, "./cmd/"+filepath.Base(to))
	cmd.Dir = o.dir
	cmd.Env = append(clean(os.Environ()), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build %s for %s: %w", filepath.Base(to), arch, err)
	}
	return nil
}

// clean leaves out what changes a program.
func clean(environ []string) []string {
	var kept []string
	for _, pair := range environ {
		name, _, _ := strings.Cut(pair, "=")
		switch name {
		case "GOFLAGS", "GOAMD64", "GOARM64", "GOEXPERIMENT", "GOFIPS140", "GOWORK":
		default:
			kept = append(kept, pair)
		}
	}
	return append(kept, "GOWORK=off")
}
