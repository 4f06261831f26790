package guest

import (
	"fmt"
	"io/fs"
	"net/rpc"
	"strings"
	"time"
)

// handPort is the name of the virtio port that the hand listens at, and
// handService that of its calls.
const (
	handPort    = "hand"
	handService = "Hand"
)

// Command is one that the hand runs in the guest, or a daemon that it starts.
type Command struct {
	Args    []string
	Env     []string // over the guest's own
	Stdin   []byte
	Timeout time.Duration // it is killed after that; none if 0
}

// Outcome of a command.
type Outcome struct {
	Stdout, Stderr []byte
	Status         int // -1 if it was killed
}

// Daemon is a command that runs on. A stopped one may be started again.
type Daemon struct {
	Name string // its log is LogDir/NAME.log
	Command
}

// LogDir is where the guest has the logs of its daemons.
const LogDir = "/run/logs"

// File is one that the hand writes, with the directories above it.
type File struct {
	Path    string
	Content []byte
	Mode    fs.FileMode
}

// Hand asks the program in a guest to do things. Calls may be made from several
// goroutines.
type Hand struct{ client *rpc.Client }

func (h Hand) call(method string, args, reply any) error {
	return h.client.Call(handService+"."+method, args, reply)
}

// Run runs a command; its status other than 0 is no error.
func (h Hand) Run(c Command) (Outcome, error) {
	var o Outcome
	err := h.call("Run", c, &o)
	return o, err
}

// Output runs a command that must succeed, and returns what it writes, without
// the space around it. One that hangs ends after five minutes.
func (h Hand) Output(args ...string) (string, error) {
	o, err := h.Run(Command{Args: args, Timeout: 5 * time.Minute})
	if err == nil && o.Status != 0 {
		err = fmt.Errorf("%s: status %d: %s", strings.Join(args, " "), o.Status, strings.TrimSpace(string(o.Stderr)))
	}
	return strings.TrimSpace(string(o.Stdout)), err
}

// Launch starts a daemon.
func (h Hand) Launch(d Daemon) error { return h.call("Launch", d, &struct{}{}) }

// Kill kills a daemon, and returns when it has ended.
func (h Hand) Kill(name string) error { return h.call("Kill", name, &struct{}{}) }

// Read returns a file's content.
func (h Hand) Read(path string) ([]byte, error) {
	var content []byte
	err := h.call("Read", path, &content)
	return content, err
}

// Write writes a file.
func (h Hand) Write(f File) error { return h.call("Write", f, &struct{}{}) }

// Glob returns the paths that match.
func (h Hand) Glob(pattern string) ([]string, error) {
	var paths []string
	err := h.call("Glob", pattern, &paths)
	return paths, err
}

// Readlink returns what a link says.
func (h Hand) Readlink(path string) (string, error) {
	var to string
	err := h.call("Readlink", path, &to)
	return to, err
}

// ping returns when the hand answers.
func (h Hand) ping() error { return h.call("Ping", struct{}{}, &struct{}{}) }
