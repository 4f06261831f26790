package multus

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/podns"
)

// Call is what a DEL says of the container, for what Multus did not keep.
type Call struct {
	IfName        string                     // the runtime's; "" = not known
	Args          [][2]string                // CNI_ARGS
	RuntimeConfig map[string]json.RawMessage // by capability
}

// Record is what Multus kept of one container.
type Record struct {
	// Attachments are in the order in which Multus attached them: the cluster
	// network first. Those that libcni alone has recorded come last.
	Attachments []Attachment
	// Files are those that have nothing to say once the attachments are gone.
	Files []string
	// Problems are what could not be read, with the file's name.
	Problems []error
}

// Attachment is one that Multus made, or was about to make.
type Attachment struct {
	network.Attachment
	Result json.RawMessage // of its ADD; nil = it may have failed
	Netns  string          // the pod's namespace; "" = not known
}

// Listed reports whether Multus keeps a list of a container's delegates: one
// look, for those that most often find nothing.
func Listed(dir, container string) bool {
	if network.ValidateContainerID(container) != nil {
		return false
	}
	_, err := os.Lstat(filepath.Join(dir, container))
	return err == nil
}

// Read returns what Multus kept of a container, nil where there is nothing.
// An error is of the kind Environment: the container's ID is fit for no path.
func Read(dir, container string, call Call) (*Record, error) {
	return NewReader(dir).Read(container, call)
}

// Reader reads the records of many containers. It lists the directory once: a
// node may keep thousands.
type Reader struct {
	dir     string
	results results
}

// NewReader lists what is there now.
func NewReader(dir string) *Reader { return &Reader{dir, listResults(dir)} }

// Read is the function of that name.
func (m *Reader) Read(container string, call Call) (*Record, error) {
	if err := network.ValidateContainerID(container); err != nil {
		return nil, err
	}
	results, problems := m.results.read(container)
	r := &Record{Problems: problems}
	path := filepath.Join(m.dir, container)
	list, err := readList(path)
	if err != nil {
		r.Problems = append(r.Problems, err)
	}
	r.fill(list, results, path, call)
	if len(r.Attachments) == 0 && len(r.Problems) == 0 {
		return nil, nil
	}
	return r, nil
}

// fill makes the attachments of what was read.
func (r *Record) fill(list []delegate, results []*cached, path string, call Call) {
	if call.IfName == "" {
		call.IfName = ifnameOf(list, results)
	}
	if whole := r.take(list, results, path, &call); whole && list != nil {
		r.Files = append(r.Files, path)
	}
	for _, c := range results {
		if c.used {
			continue
		}
		a, convErr := c.attachment(&call)
		if convErr != nil {
			r.Problems = append(r.Problems, convErr)
			continue
		}
		r.Attachments, r.Files = append(r.Attachments, *a), append(r.Files, c.path)
	}
	slices.SortStableFunc(r.Attachments, func(a, b Attachment) int { return rank(a) - rank(b) })
}

// rank puts the cluster network first, whichever record it came from.
func rank(a Attachment) int {
	if a.Cluster {
		return 0
	}
	return 1
}

// take adds the list's delegates, and reports whether it understood them all.
func (r *Record) take(list []delegate, results []*cached, path string, call *Call) (whole bool) {
	whole = true
	for i := range list {
		a, err := list[i].attachment(i, path, call)
		if err != nil {
			r.Problems, whole = append(r.Problems, err), false
			continue
		}
		for _, c := range results {
			if c.NetworkName != a.Name || c.IfName != a.IfName || c.used {
				continue
			}
			// One that is of no use takes nothing from what the list says.
			if exact, convErr := c.attachment(call); convErr == nil {
				a.refine(exact)
			}
			c.used = true
			r.Files = append(r.Files, c.path)
		}
		r.Attachments = append(r.Attachments, *a)
	}
	return whole
}

// ifnameOf finds out the interface of the cluster network where no runtime
// says it: by libcni's record of the first delegate.
func ifnameOf(list []delegate, results []*cached) string {
	const usual = "eth0"
	if len(list) == 0 {
		return usual
	}
	first, err := list[0].list("")
	if err != nil {
		return usual
	}
	i := slices.IndexFunc(results, func(c *cached) bool { return c.NetworkName == first.Name })
	if i < 0 {
		return usual
	}
	return results[i].IfName
}

// validate reports whether the attachment can be run. It names the cluster
// network's file of device information, which goes with the attachment.
func (a *Attachment) validate(source string) error {
	if err := network.ValidateInterface(source+": interface", a.IfName); err != nil {
		return err
	}
	var file string
	if raw, ok := a.CapabilityArgs["CNIDeviceInfoFile"]; ok && json.Unmarshal(raw, &file) == nil {
		a.DeviceInfoFile = file
	}
	return a.Validate(source)
}

// Pod is the container's pod as the runtime named it in CNI_ARGS; what it did not
// say is "".
func (r *Record) Pod() (namespace, name, uid string) {
	for i := range r.Attachments {
		for _, arg := range r.Attachments[i].Args {
			switch arg[0] {
			case "K8S_POD_NAMESPACE":
				namespace = arg[1]
			case "K8S_POD_NAME":
				name = arg[1]
			case "K8S_POD_UID":
				uid = arg[1]
			}
		}
	}
	return namespace, name, uid
}

// Plain reports that the container has the cluster network alone, as far as the
// record can be read.
func (r *Record) Plain() bool {
	return len(r.Problems) == 0 && !slices.ContainsFunc(r.Attachments, func(a Attachment) bool { return !a.Cluster })
}

// Gone reports that the container's namespace was recorded, and is there no
// more. Multus's older versions record none. root is where the node's files are
// seen: "/" on the node.
func (r *Record) Gone(root string) bool {
	places := r.places(root)
	return len(places) > 0 && !slices.ContainsFunc(places, func(place string) bool {
		_, err := os.Lstat(place)
		return !errors.Is(err, fs.ErrNotExist)
	})
}

// Lives reports that a namespace of the container's was recorded, and is there.
func (r *Record) Lives(root string) bool {
	return slices.ContainsFunc(r.places(root), func(place string) bool {
		_, err := os.Lstat(place)
		return err == nil
	})
}

// Hidden reports that a namespace of the container's was recorded, and that its
// directory cannot be seen below root: then neither Gone nor Lives says anything.
func (r *Record) Hidden(root string) bool {
	return slices.ContainsFunc(r.Attachments, func(a Attachment) bool {
		return a.Netns != "" && !podns.Visible(root, a.Netns)
	})
}

// places are where the recorded namespaces may be seen below root.
func (r *Record) places(root string) (all []string) {
	for i := range r.Attachments {
		if netns := r.Attachments[i].Netns; netns != "" {
			all = append(all, podns.Places(root, netns)...)
		}
	}
	return all
}

// Containers returns the containers that Multus keeps a list for.
func Containers(dir string) ([]string, error) {
	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("the records of Multus: %w", err)
	}
	var containers []string
	for _, f := range files {
		if !f.IsDir() && network.ValidateContainerID(f.Name()) == nil {
			containers = append(containers, f.Name())
		}
	}
	return containers, nil
}
