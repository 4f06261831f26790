package multiplexer

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// deviceInfoCapability tells a plugin the file of its attachment
// (device-info-spec 1.1.0 section 5.1).
const deviceInfoCapability = "CNIDeviceInfoFile"

// The directories of device-info-spec section 4, below DeviceInfoDir.
const (
	ofDevices     = "dp"  // device plugins write here, for each device
	ofAttachments = "cni" // one file for each attachment, which its plugins read and write
)

// nameDeviceInfo gives every attachment that can have device information a
// file of its own (sections 4.2.1 and 5.1.1). The journal keeps the name.
func (c *call) nameDeviceInfo(attachments []network.Attachment) error {
	if c.plugin.DeviceInfoDir == "" {
		return nil
	}
	for i := range attachments {
		a := &attachments[i]
		if a.Resource == "" && !a.Declares(deviceInfoCapability) {
			continue
		}
		a.DeviceInfoFile = filepath.Join(c.plugin.DeviceInfoDir, ofAttachments, deviceInfoName(c.args.ContainerID, a.Name, a.IfName))
		path, err := json.Marshal(a.DeviceInfoFile)
		if err != nil {
			return fmt.Errorf("encode the path of the device information of %s: %w", a, err)
		}
		args := maps.Clone(a.CapabilityArgs) // the map may be another attachment's too
		if args == nil {
			args = map[string]json.RawMessage{}
		}
		args[deviceInfoCapability] = path
		a.CapabilityArgs = args
	}
	return nil
}

// deviceInfoName is unique for an attachment: '@' is in neither a container's
// nor a network's name. What is too long for a file name is hashed.
func deviceInfoName(container, networkName, ifname string) string {
	const most = 255 - len(deviceInfoTemp)
	name := container + "@" + networkName + "@" + ifname + ".json"
	if len(name) > most {
		sum := sha256.Sum256([]byte(name))
		name = fmt.Sprintf("%s@%x.json", container, sum[:20])
	}
	return name
}

// deviceInfoTemp ends the name of a file that is being written.
const deviceInfoTemp = ".tmp"

// deviceInfoFile returns an attachment's file, relative to DeviceInfoDir, or
// "". A path that leads anywhere else is none of ours.
func (c *call) deviceInfoFile(a *network.Attachment) string {
	if a.DeviceInfoFile == "" || c.plugin.DeviceInfoDir == "" {
		return ""
	}
	file := filepath.Join(ofAttachments, filepath.Base(a.DeviceInfoFile))
	if filepath.Join(c.plugin.DeviceInfoDir, file) != a.DeviceInfoFile {
		c.log.Warn("the journal names a file of device information that is none: it is left alone", "network", a.Reference, "file", a.DeviceInfoFile)
		return ""
	}
	return file
}

// placeDeviceInfo makes an attachment's file ready for its plugins: what the
// device plugin said of the device, else nothing (section 4.2.1).
func (c *call) placeDeviceInfo(a *network.Attachment) error {
	file := c.deviceInfoFile(a)
	if file == "" {
		return nil
	}
	if err := c.writeDeviceInfo(file, a); err != nil {
		return network.IO.Errorf("device information of %s: %w; %s must be a writable directory of root's", a, err, c.plugin.DeviceInfoDir)
	}
	return nil
}

func (c *call) writeDeviceInfo(file string, a *network.Attachment) error {
	if err := os.MkdirAll(c.plugin.DeviceInfoDir, 0o755); err != nil {
		return err
	}
	// By way of a Root, no link in the directory leads out of it.
	root, err := os.OpenRoot(c.plugin.DeviceInfoDir)
	if err != nil {
		return err
	}
	defer root.Close()
	if err = root.MkdirAll(ofAttachments, 0o755); err != nil {
		return err
	}
	if err = removeDeviceInfo(root, file); err != nil {
		return err
	}
	info := c.ofDevicePlugin(root, a)
	if info == nil {
		return nil
	}
	// Others on the node may read it: it is shown on the pod as well.
	temp := file + deviceInfoTemp
	f, err := root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(info)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return root.Rename(temp, file)
}

// ofDevicePlugin returns what the device plugin says of the attachment's
// device; most say nothing.
func (c *call) ofDevicePlugin(root *os.Root, a *network.Attachment) []byte {
	if a.Resource == "" || a.DeviceID == "" {
		return nil
	}
	name := strings.ReplaceAll(a.Resource+"-"+a.DeviceID, "/", "-") + "-device.json" // section 4.1
	return c.readDeviceInfo(root, filepath.Join(ofDevices, name), a)
}

// foundDeviceInfo returns an attachment's information as its plugins left it
// (section 6.1.1), or nil.
func (c *call) foundDeviceInfo(a *network.Attachment) json.RawMessage {
	file := c.deviceInfoFile(a)
	if file == "" {
		return nil
	}
	root, err := os.OpenRoot(c.plugin.DeviceInfoDir)
	if err != nil {
		c.log.Warn("device information cannot be read: the pod's status lacks it", "network", a.Reference, "error", err.Error())
		return nil
	}
	defer root.Close()
	return c.readDeviceInfo(root, file, a)
}

// readDeviceInfo reads a file that others wrote. What is wrong with it is a
// warning: the attachment works without.
func (c *call) readDeviceInfo(root *os.Root, file string, a *network.Attachment) []byte {
	data, err := readBounded(root, file)
	if err == nil {
		err = network.CheckDeviceInfo("device information file "+filepath.Join(root.Name(), file), data)
	} else if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		c.log.Warn("device information is not used", "network", a.Reference, "error", err.Error())
		return nil
	}
	return data
}

// readBounded reads a regular file, and one byte more than it may have.
func readBounded(root *os.Root, file string) ([]byte, error) {
	info, err := root.Lstat(file)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", filepath.Join(root.Name(), file))
	}
	f, err := root.OpenFile(file, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, network.MaxDeviceInfo+1))
}

// dropDeviceInfo removes an attachment's file (section 4.2.1).
func (c *call) dropDeviceInfo(a *network.Attachment) error {
	file := c.deviceInfoFile(a)
	if file == "" {
		return nil
	}
	root, err := os.OpenRoot(c.plugin.DeviceInfoDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		defer root.Close()
		err = removeDeviceInfo(root, file)
	}
	if err != nil {
		return network.IO.Errorf("remove the device information of %s: %w; remove %s by hand", a, err, a.DeviceInfoFile)
	}
	return nil
}

// removeDeviceInfo removes an attachment's file, and what a killed call left
// of writing it.
func removeDeviceInfo(root *os.Root, file string) error {
	for _, name := range []string{file, file + deviceInfoTemp} {
		if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
