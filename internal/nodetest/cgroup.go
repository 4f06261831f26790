package nodetest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/internal/kubetest"
)

const cgroupRoot = "/sys/fs/cgroup"

// hierarchies are the roots of the machine's cgroups: one with version 2, one
// for each controller with version 1.
func hierarchies() ([]string, error) {
	if isCgroup(cgroupRoot) {
		return []string{cgroupRoot}, nil
	}
	paths, err := filepath.Glob(cgroupRoot + "/*")
	if err != nil {
		return nil, err
	}
	paths = slices.DeleteFunc(paths, func(path string) bool { return !isCgroup(path) })
	if len(paths) == 0 {
		return nil, fmt.Errorf("no cgroups are mounted at %s", cgroupRoot)
	}
	return paths, nil
}

func isCgroup(path string) bool {
	var stat unix.Statfs_t
	return unix.Statfs(path, &stat) == nil && (stat.Type == unix.CGROUP_SUPER_MAGIC || stat.Type == unix.CGROUP2_SUPER_MAGIC)
}

// makeCgroups makes the cgroup that is the root of a node's pods; kubelet
// wants it to be there.
func makeCgroups(name string) error {
	roots, err := hierarchies()
	if err != nil {
		return err
	}
	for _, root := range roots {
		path := filepath.Join(root, name)
		if err = os.MkdirAll(path, 0o755); err != nil {
			return fmt.Errorf("make cgroup: %w", err)
		}
		if err = copyCpuset(root, path); err != nil {
			return err
		}
	}
	return nil
}

// copyCpuset gives the cgroup the processors and memory of the root: version
// 1 begins with none, and then nothing can run in it.
func copyCpuset(root, path string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		content, err := os.ReadFile(filepath.Join(root, file))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read cpuset: %w", err)
		}
		if err = os.WriteFile(filepath.Join(path, file), bytes.TrimSpace(content), 0o644); err != nil {
			return fmt.Errorf("write cpuset: %w", err)
		}
	}
	return nil
}

// removeCgroups removes the cgroups whose name begins so. The kernel refuses
// for a moment after the last process went.
func removeCgroups(prefix string) error {
	roots, err := hierarchies()
	if err != nil {
		return err
	}
	for _, root := range roots {
		paths, globErr := filepath.Glob(filepath.Join(root, prefix+"*"))
		if globErr != nil {
			return globErr
		}
		for _, path := range paths {
			if err = kubetest.Poll(patience, func() (bool, error) {
				removeErr := removeCgroup(path)
				return removeErr == nil, removeErr
			}); err != nil {
				return fmt.Errorf("remove cgroup: %w", err)
			}
		}
	}
	return nil
}

// removeCgroup removes a cgroup and those below it; its files cannot be
// removed and go with it.
func removeCgroup(path string) error {
	entries, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.IsDir() {
			if err = removeCgroup(filepath.Join(path, entry.Name())); err != nil {
				return err
			}
		}
	}
	return unix.Rmdir(path)
}
