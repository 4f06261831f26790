package deviceplugin

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"time"

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
	unsettled        bool      // what the one before listed is not all sorted out yet
}

// absence is how long the file must be gone before that counts: some programs
// remove a file to write it anew.
const absence = time.Second

// configure reads the file. What is wrong with it is said once for each
// content, and leaves what it said before in force. It reports whether another
// configuration is in force now.
func (m *Manager) configure() (changed bool) {
	raw, err := os.ReadFile(m.ConfigPath)
	if errors.Is(err, fs.ErrNotExist) {
		return m.unconfigure()
	}
	parsed := m.parse(raw, err)
	if parsed != nil && m.OnConfig != nil {
		m.OnConfig(parsed)
	}
	return parsed != nil
}

// parse takes over what was read, or not. It returns nil where nothing new
// comes into force.
func (m *Manager) parse(raw []byte, err error) *resource.Config {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.config.absent = time.Time{}
	if err != nil {
		m.config.problems = 1
		m.notices.check(m.Log, "config", "the device plugin's configuration is not read: what it said before stays in force",
			network.IO.Errorf("%w; it must be a file that root can read", err))
		return nil
	}
	if m.config.raw != nil && bytes.Equal(raw, m.config.raw) {
		return nil
	}
	m.config.raw = raw
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
		m.config.problems = 0
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
