// Recorder is a CNI plugin for tests. It records every call, keeps the
// addresses that it gave away as a real plugin does, and does whatever else
// its network configuration says:
//
//	{"cniVersion": "1.0.0", "name": "n", "type": "recorder", "dir": "/abs/dir",
//	 "subnet": "10.99.0.0/24",
//	 "steps": {"ADD": [{"sleep": "500ms"}, {"allocate": true}], "DEL": [...]}}
//
// A verb without steps does its default. See step.go for the steps.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"
)

// CNI error codes; codeMissing is the recorder's own.
const (
	codeExists  = 4 // what ADD should make is there already
	codeEnv     = 4
	codeIO      = 5
	codeDecode  = 6
	codeConfig  = 7
	codeMissing = 999
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == holdArg {
		hold(os.Args[2])
		return
	}
	c := &call{
		verb:        os.Getenv("CNI_COMMAND"),
		containerID: os.Getenv("CNI_CONTAINERID"),
		ifname:      os.Getenv("CNI_IFNAME"),
		netns:       os.Getenv("CNI_NETNS"),
	}
	if err := c.run(os.Stdin); err != nil {
		c.fail(err)
	}
}

// call is one call of the plugin.
type call struct {
	verb, containerID, ifname, netns string

	conf    config
	printed bool // a step wrote to stdout
}

func (c *call) run(stdin io.Reader) error {
	raw, err := io.ReadAll(stdin)
	if err != nil {
		return cniError(codeIO, "read stdin: %v", err)
	}
	if c.verb == "VERSION" {
		return version.All.Encode(os.Stdout)
	}
	if err = c.conf.parse(raw); err != nil {
		return err
	}
	if err = c.record(raw); err != nil {
		return err
	}
	if err = c.checkEnv(); err != nil {
		return err
	}
	steps, configured := c.conf.Steps[c.verb]
	if !configured {
		return c.byDefault()
	}
	for i, s := range steps {
		if err = c.step(i, s); err != nil {
			return err
		}
	}
	if c.verb == "ADD" && !c.printed {
		return c.printResult()
	}
	return nil
}

// byDefault is what a plugin with addresses to give away would do.
func (c *call) byDefault() error {
	switch c.verb {
	case "ADD":
		if err := c.allocate(); err != nil {
			return err
		}
		return c.printResult()
	case "DEL":
		return errors.Join(c.unlink(), c.free())
	case "CHECK":
		if _, err := c.lease(); err != nil {
			return cniError(codeMissing, "no lease: %v", err)
		}
		return nil
	case "GC":
		return c.collect()
	case "STATUS":
		return nil
	}
	return cniError(codeEnv, "unknown CNI_COMMAND %q", c.verb)
}

// checkEnv finds the variables that the verb cannot do without.
func (c *call) checkEnv() error {
	need := map[string]string{}
	switch c.verb {
	case "ADD", "CHECK":
		need["CNI_NETNS"] = c.netns
		fallthrough
	case "DEL":
		need["CNI_CONTAINERID"], need["CNI_IFNAME"] = c.containerID, c.ifname
	}
	for name, value := range need {
		if value == "" {
			return cniError(codeEnv, "required env variable %s missing", name)
		}
	}
	if strings.ContainsAny(c.containerID+c.ifname, "/") {
		return cniError(codeEnv, "CNI_CONTAINERID %q or CNI_IFNAME %q is no file name", c.containerID, c.ifname)
	}
	return nil
}

// fail prints the error as the specification says and ends the process.
func (c *call) fail(err error) {
	var e *types.Error
	if !errors.As(err, &e) {
		e = &types.Error{Code: codeIO, Msg: err.Error()}
	}
	_ = json.NewEncoder(os.Stdout).Encode(struct {
		CNIVersion string `json:"cniVersion"`
		*types.Error
	}{c.conf.CNIVersion, e})
	os.Exit(1)
}

func cniError(code uint, format string, args ...any) error {
	return &types.Error{Code: code, Msg: fmt.Sprintf(format, args...)}
}

// hold is the child that the fork step leaves behind.
func hold(duration string) {
	d, err := time.ParseDuration(duration)
	if err != nil {
		os.Exit(2)
	}
	time.Sleep(d)
}
