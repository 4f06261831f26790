package routing

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/multiplexer-cni/multiplexer/pkg/podns"
)

const procSysNet = "/proc/sys/net"

// readSysctls returns settings of the namespace. A key that the kernel lacks
// (IPv6 is off) is left out.
func (p *Pod) readSysctls(keys []string) (map[string]string, error) {
	values := map[string]string{}
	if len(keys) == 0 {
		return values, nil
	}
	err := podns.Within(p.path, func() error {
		for _, key := range keys {
			raw, err := os.ReadFile(filepath.Join(procSysNet, key))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return fmt.Errorf("read sysctl: %w", err)
			}
			values[key] = strings.TrimSpace(string(raw))
		}
		return nil
	})
	return values, err
}

// writeSysctls gives each setting the value that is wanted of it.
func (p *Pod) writeSysctls(settings []Sysctl) error {
	if len(settings) == 0 {
		return nil
	}
	return podns.Within(p.path, func() error {
		for _, s := range settings {
			if err := writeSysctl(s.Key, s.Want); err != nil {
				return err
			}
		}
		return nil
	})
}

func writeSysctl(key, value string) error {
	if err := os.WriteFile(filepath.Join(procSysNet, key), []byte(value), 0o644); err != nil {
		return fmt.Errorf("write sysctl: %w", err)
	}
	return nil
}

// nic is the interface that the setting is of.
func (s Sysctl) nic() string { return path.Base(path.Dir(s.Key)) }

// restoreSysctls gives settings their former value, where nobody has changed
// them since. One whose interface is gone is gone with it.
func (p *Pod) restoreSysctls(settings []Sysctl) error {
	now, err := p.readSysctls(keysIn(settings))
	if err != nil {
		return err
	}
	var ours []Sysctl
	for _, s := range settings {
		if now[s.Key] == s.Want && s.Had != "" {
			ours = append(ours, s)
		}
	}
	return p.putBack(ours)
}

// putBack sets each setting to its former value, and passes over those of an
// interface that went meanwhile.
func (p *Pod) putBack(settings []Sysctl) error {
	if len(settings) == 0 {
		return nil
	}
	return podns.Within(p.path, func() error {
		for _, s := range settings {
			if err := writeSysctl(s.Key, s.Had); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		return nil
	})
}

func keysIn(settings []Sysctl) []string {
	var keys []string
	for _, s := range settings {
		keys = append(keys, s.Key)
	}
	return keys
}
