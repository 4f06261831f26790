package multus

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// cached is libcni's record of one ADD, of the kind "cniCacheV1".
type cached struct {
	Kind           string
	ContainerID    string
	IfName         string
	NetworkName    string
	Netns          string // missing in those of old versions
	Config         []byte
	CniArgs        [][2]string
	CapabilityArgs map[string]json.RawMessage
	Result         json.RawMessage

	path string
	used bool // by a delegate of the list
}

// results are the names of libcni's records, as they were when they were listed.
type results struct {
	dir    string
	names  []string            // sorted
	byPart map[string][]string // those that have it between two "-"
	err    error
}

func listResults(dir string) results {
	r := results{dir: filepath.Join(dir, "results"), byPart: map[string][]string{}}
	files, err := os.ReadDir(r.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.err = network.IO.Errorf("the records of Multus: %w", err)
	}
	for _, file := range files {
		name := file.Name()
		r.names = append(r.names, name)
		parts := strings.Split(name, "-")
		slices.Sort(parts)
		for _, part := range slices.Compact(parts) {
			r.byPart[part] = append(r.byPart[part], name)
		}
	}
	return r
}

// read reads the records of a container. A record that cannot be read is a
// problem and not an end: the list may know the delegate too.
func (r results) read(container string) (found []*cached, problems []error) {
	if r.err != nil {
		return nil, []error{r.err}
	}
	names := r.names
	if !strings.Contains(container, "-") {
		names = r.byPart[container]
	}
	for _, name := range names {
		// The network's name comes before it, and may hold "-" too.
		if !strings.Contains(name, "-"+container+"-") {
			continue
		}
		c, readErr := readResult(filepath.Join(r.dir, name))
		switch {
		case errors.Is(readErr, fs.ErrNotExist): // its DEL was faster
		case readErr != nil:
			problems = append(problems, readErr)
		case c.ContainerID == container:
			found = append(found, c)
		}
	}
	return found, problems
}

func readResult(path string) (*cached, error) {
	raw, err := readFile(path)
	if err != nil {
		return nil, network.IO.Errorf("a record of Multus: %w", err)
	}
	return parseResult(path, raw)
}

func parseResult(path string, raw []byte) (*cached, error) {
	c := &cached{path: path}
	if err := json.Unmarshal(raw, c); err != nil {
		return nil, network.Malformed.Errorf("the record %s of Multus: %w", path, err)
	}
	if want := fmt.Sprintf("%s-%s-%s", c.NetworkName, c.ContainerID, c.IfName); c.Kind != "cniCacheV1" || filepath.Base(path) != want {
		return nil, network.Malformed.Errorf("the record %s of Multus: kind %q, network %q, container %q and interface %q do not fit its name", path, c.Kind, c.NetworkName, c.ContainerID, c.IfName)
	}
	return c, nil
}

// attachment is the ADD as libcni recorded it.
func (c *cached) attachment(call *Call) (*Attachment, error) {
	source := "the record " + c.path + " of Multus"
	list, err := network.ParseList(source, c.NetworkName, c.Config)
	if err != nil {
		return nil, err
	}
	a := &Attachment{
		Attachment: network.Attachment{
			List: *list, Reference: list.Name, Source: c.path, IfName: c.IfName, Cluster: c.IfName == call.IfName,
			Args: c.CniArgs, CapabilityArgs: c.CapabilityArgs,
		},
		Netns: c.Netns,
	}
	if len(c.Result) > 0 && string(c.Result) != "null" {
		a.Result = c.Result
	}
	return a, a.validate(source)
}

// refine gives a delegate of the list what libcni's record knows better. The
// list alone has plugins that Multus found in the folder beside a conflist.
func (a *Attachment) refine(exact *Attachment) {
	if more := len(exact.Plugins); more < len(a.Plugins) {
		exact.Plugins = append(exact.Plugins, a.Plugins[more:]...)
	}
	a.List, a.Source, a.Netns, a.Result = exact.List, exact.Source, exact.Netns, exact.Result
	a.Args, a.CapabilityArgs = exact.Args, exact.CapabilityArgs
}
