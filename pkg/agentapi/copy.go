package agentapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// Copy is the agent's last word about what concerns every pod. The plugin
// goes by it when the agent is down, and always asks it which namespaces have
// networks of their own: so a pod that asks for nothing needs no agent.
type Copy struct {
	Version int `json:"version"`
	// Namespaces that have networks of their own.
	Namespaces []string `json:"namespaces"`
	// Networks that the plugin's configuration names: its default networks,
	// and the cluster network where it is a definition.
	Networks    []Reference  `json:"networks"`
	Definitions []Definition `json:"definitions"` // of Networks, those that exist
	Facts
}

// copyVersion is the format of the file. The keys "version" and "namespaces"
// keep their meaning in every later one: plain pods start by them, whichever
// of plugin and agent is older.
const copyVersion = 1

// copyFile is the file's name in the state directory.
const copyFile = "cluster.json"

// LoadCopy reads the copy of a state directory; nil where there is none yet.
// Of one of a later format it returns the namespaces alone, and an error of
// kind Unsupported that says who is to be upgraded.
func LoadCopy(stateDir string) (*Copy, error) {
	path := filepath.Join(stateDir, copyFile)
	raw, err := readRegular(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, network.IO.Errorf("read the agent's last word: %w", err)
	}
	c := &Copy{}
	var head struct {
		Version    int             `json:"version"`
		Namespaces json.RawMessage `json:"namespaces"`
	}
	if err = json.Unmarshal(raw, &head); err == nil && head.Version > copyVersion {
		return laterCopy(path, head.Version, head.Namespaces)
	}
	if err = json.Unmarshal(raw, c); err != nil {
		return nil, network.IO.Errorf("read the agent's last word: %s: %w; remove it, and the agent writes it anew when it starts", path, err)
	}
	if c.Version < 1 {
		return nil, network.IO.Errorf("read the agent's last word: %s says nothing; remove it, and the agent writes it anew", path)
	}
	return c, nil
}

func laterCopy(path string, version int, namespaces json.RawMessage) (*Copy, error) {
	later := network.Unsupported.Errorf("%s is of format %d, this version reads %d: upgrade the multiplexer plugin on this node to the version of the agent that wrote it", path, version, copyVersion)
	c := &Copy{Version: version}
	if namespaces == nil || json.Unmarshal(namespaces, &c.Namespaces) != nil {
		return nil, later
	}
	return c, later
}

func readRegular(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file: remove it", path)
	}
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxMessage+1))
	if err == nil && len(raw) > maxMessage {
		err = fmt.Errorf("%s: more than %d bytes", path, maxMessage)
	}
	return raw, err
}

// Save writes the copy in one step, if it says something new. The last one
// outlives a power loss: a node that comes up again without its agent must
// know which pods have to wait.
func (c *Copy) Save(stateDir string) error {
	c.Version = copyVersion
	raw, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("encode %s: %w", copyFile, err)
	}
	path := filepath.Join(stateDir, copyFile)
	if old, readErr := readRegular(path); readErr == nil && bytes.Equal(old, raw) {
		return nil
	}
	if err = replace(path, raw); err != nil {
		return fmt.Errorf("write the agent's last word: %w", err)
	}
	return nil
}

// replace puts a file in place of what was there, whole or not at all.
func replace(path string, content []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	temporary := "." + filepath.Base(path) + "."
	if err := sweep(filepath.Join(dir, temporary+"*")); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, temporary)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	folder, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// youngest is the age below which a file may be one that another agent, in an
// upgrade, writes now.
const youngest = time.Minute

// sweep removes what agents that were killed left half written.
func sweep(pattern string) error {
	left, err := filepath.Glob(pattern)
	for _, file := range left {
		if info, statErr := os.Lstat(file); statErr != nil || time.Since(info.ModTime()) < youngest {
			continue
		}
		if rmErr := os.Remove(file); !errors.Is(rmErr, fs.ErrNotExist) {
			err = errors.Join(err, rmErr)
		}
	}
	return err
}

// HasNetworks reports whether a namespace has networks of its own.
func (c *Copy) HasNetworks(namespace string) bool { return slices.Contains(c.Namespaces, namespace) }

// Knows reports whether the agent has looked for all these networks. No copy
// knows none.
func (c *Copy) Knows(references []Reference) bool {
	return c != nil && !slices.ContainsFunc(references, func(r Reference) bool { return !slices.Contains(c.Networks, r) })
}
