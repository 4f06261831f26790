package nettest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// Environment variables that name what is built already. A function that
// builds sets its variable, so that a process builds once, and so do the
// processes that it starts.
const (
	envBinary   = "MULTIPLEXER_BIN"
	envAgent    = "MULTIPLEXERD_BIN"
	envPlugins  = "MULTIPLEXER_CNI_PLUGINS"
	envRecorder = "MULTIPLEXER_NETTEST_RECORDER"
)

// modulePath is the module whose commands are built.
const modulePath = "github.com/multiplexer-cni/multiplexer"

// BinaryPath returns the multiplexer executable: $MULTIPLEXER_BIN, or built
// from cmd/multiplexer once per process.
func BinaryPath() (string, error) {
	return builtOnce(envBinary, "./cmd/multiplexer")
}

// AgentPath returns the multiplexerd executable: $MULTIPLEXERD_BIN, or built
// from cmd/multiplexerd once per process.
func AgentPath() (string, error) {
	return builtOnce(envAgent, "./cmd/multiplexerd")
}

// BuildRecorder builds the recorder, the delegate that records its calls, once
// per process, and returns a directory with nothing but it, for CNI_PATH.
// Test processes share that directory; see InstallRecorder for one's own.
func BuildRecorder() (string, error) {
	path, err := builtOnce(envRecorder, "./internal/nettest/recorder")
	return filepath.Dir(path), err
}

// InstallRecorder puts the recorder into dir under each of the names, so that
// it answers to those plugin types. Unlike with a symbolic link, what runs is
// a file in dir, which tells a test's recorders from another test's.
func InstallRecorder(dir string, names ...string) error {
	from, err := BuildRecorder()
	if err != nil {
		return err
	}
	recorder := filepath.Join(from, "recorder")
	for _, name := range names {
		to := filepath.Join(dir, name)
		if os.Link(recorder, to) == nil {
			continue
		}
		// Another file system. This process must not write the copy itself: a
		// child forked meanwhile would hold it open for writing, and then it
		// cannot be run ("text file busy").
		if _, err = output(dir, "cp", recorder, to); err != nil {
			return fmt.Errorf("install recorder: %w", err)
		}
	}
	return nil
}

// PluginsDir returns the directory with the reference CNI plugins:
// $MULTIPLEXER_CNI_PLUGINS, or what tools/cniplugins.sh builds.
func PluginsDir() (string, error) {
	if dir := os.Getenv(envPlugins); dir != "" {
		return dir, nil
	}
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	out, err := output(root, filepath.Join(root, "tools", "cniplugins.sh"))
	if err != nil {
		return "", fmt.Errorf("build CNI plugins: %w", err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	dir := lines[len(lines)-1]
	if _, err = os.Stat(filepath.Join(dir, "bridge")); err != nil {
		return "", fmt.Errorf("find CNI plugins: %w", err)
	}
	return dir, os.Setenv(envPlugins, dir)
}

// BuildProgram returns a command of this module: what the environment variable
// names, or the package, which begins with "./", built once per process.
func BuildProgram(env, pkg string) (string, error) { return builtOnce(env, pkg) }

// builtOnce returns the executable that env names, or builds the package.
func builtOnce(env, pkg string) (string, error) {
	if path := os.Getenv(env); path != "" {
		return path, nil
	}
	path, err := build(pkg)
	if err != nil {
		return "", fmt.Errorf("build %s: %w", pkg, err)
	}
	return path, os.Setenv(env, path)
}

// build puts the package's executable into a directory named after its
// content. Test processes share it, nobody ever writes to one that runs, and
// a kept directory costs nothing but a few megabytes.
func build(pkg string) (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find cache: %w", err)
	}
	cache = filepath.Join(cache, "multiplexer", "nettest")
	if err = os.MkdirAll(cache, 0o755); err != nil {
		return "", fmt.Errorf("make cache: %w", err)
	}
	removeOld(cache)
	tmp, err := os.MkdirTemp(cache, "build-")
	if err != nil {
		return "", fmt.Errorf("make build directory: %w", err)
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	if err = os.Chmod(tmp, 0o755); err != nil {
		return "", fmt.Errorf("open build directory to readers: %w", err)
	}
	name := filepath.Base(pkg)
	if _, err = output(root, "env", "CGO_ENABLED=0", "go", "build", "-o", filepath.Join(tmp, name), pkg); err != nil {
		return "", err
	}
	content, err := os.ReadFile(filepath.Join(tmp, name))
	if err != nil {
		return "", fmt.Errorf("read executable: %w", err)
	}
	sum := sha256.Sum256(content)
	dir := filepath.Join(cache, name+"-"+hex.EncodeToString(sum[:8]))
	// Renaming onto a directory that is not empty fails: it holds the same.
	if err = os.Rename(tmp, dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("publish executable: %w", err)
	}
	now := time.Now()
	return filepath.Join(dir, name), os.Chtimes(dir, now, now)
}

// removeOld drops what nobody asked for in the last day.
func removeOld(cache string) {
	entries, err := os.ReadDir(cache)
	if err != nil {
		return
	}
	for _, entry := range entries {
		if info, statErr := entry.Info(); statErr == nil && time.Since(info.ModTime()) > 24*time.Hour {
			_ = os.RemoveAll(filepath.Join(cache, entry.Name()))
		}
	}
}

// moduleRoot walks up from the working directory to the repository's root.
func moduleRoot() (string, error) {
	module := regexp.MustCompile(`(?m)^module\s+` + regexp.QuoteMeta(modulePath) + `\s*$`)
	start, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("get working directory: %w", err)
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		gomod, readErr := os.ReadFile(filepath.Join(dir, "go.mod"))
		if readErr == nil && module.Match(gomod) {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("no go.mod of module %s in or above %s", modulePath, start)
		}
	}
}

// output runs a program in dir and returns its stdout; stderr goes into the
// error.
func output(dir, name string, args ...string) ([]byte, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", name, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.Bytes(), nil
}
