package deviceplugin

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/resource"
)

// configState is the configuration that is in force, and the file as it was
// read last.
type configState struct {
	*resource.Config           // nil = nothing is served
	raw              []byte    // nil: there was no file
	problems         int       // of the file
	absent           time.Time // since when it is not there; zero = it is
	unread           bool      // it is there and was never read
	unsettled        bool      // what the one before listed is not all sorted out yet
}

// absence is how long the file must be gone before that counts: some programs
// remove a file to write it anew.
const absence = time.Second

// configure reads the file. What is wrong with it is said once for each
// content, and leaves what it said before in force. It reports whether another
// configuration is in force now.
func (m *Manager) configure() (changed bool) {
	raw, err := readConfig(m.ConfigPath)
	if errors.Is(err, fs.ErrNotExist) {
		return m.unconfigure()
	}
	parsed := m.parse(raw, err)
	if parsed != nil && m.OnConfig != nil {
		m.OnConfig(parsed)
	}
	return parsed != nil
}

// readConfig reads the file, if it is one: a FIFO would hold the agent up for
// ever, and a device fill its memory. What is too long is cut off where
// resource.Parse still notices.
func readConfig(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", path)
	}
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(f, maxFile))
}

// blind reports whether there is a file, and it never said anything sound:
// nothing is known of what is to be listed. The caller holds mu.
func (c *configState) blind() bool { return c.Config == nil && (c.raw != nil || c.unread) }

// parse takes over what was read, or not. It returns nil where nothing new
// comes into force.
func (m *Manager) parse(raw []byte, err error) *resource.Config {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.config.absent = time.Time{}
	if err != nil {
		m.config.problems, m.config.unread = 1, m.config.Config == nil
		m.notices.check(m.Log, "config", "the device plugin's configuration is not read: what it said before stays in force",
			network.IO.Errorf("%w; it must be a file that root can read", err))
		return nil
	}
	if m.config.raw != nil && bytes.Equal(raw, m.config.raw) {
		return nil
	}
	m.config.raw, m.config.unread = raw, false
	parsed, problems, err := resource.Parse(m.ConfigPath, raw, m.Prefix)
	if err != nil {
		m.config.problems = 1
		m.notices.check(m.Log, "config", "the device plugin's configuration is wrong: what it said before stays in force; correct the file", err)
		return nil
	}
	m.notices.check(m.Log, "config", "", nil)
	m.Log.Info("the device plugin is configured", "file", m.ConfigPath, "resources", len(parsed.Resources))
	problems = append(problems, collisions(parsed)...)
	for _, p := range problems {
		m.Log.Warn("in the device plugin's configuration", "error", p.Error())
	}
	m.config.Config, m.config.problems, m.config.unsettled = parsed, len(problems), true
	return parsed
}

// unconfigure is configure for a file that is not there: nothing is served,
// once that has lasted.
func (m *Manager) unconfigure() (changed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.config.raw == nil && m.config.Config == nil:
		m.config.problems, m.config.unread = 0, false
	case m.config.absent.IsZero():
		m.config.absent = m.Now()
	case m.Now().Sub(m.config.absent) >= absence:
		m.Log.Info("the device plugin's configuration is gone: nothing is offered", "file", m.ConfigPath)
		m.notices.check(m.Log, "config", "", nil)
		m.config = configState{unsettled: true}
		return true
	}
	return false
}
