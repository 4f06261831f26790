package sriov

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/lockfile"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/podns"
)

// Plugin is the embedded plugin `sriov`.
type Plugin struct {
	Sys        Sysfs
	Kernel     Kernel
	Foreign    string // sriov-cni's directory, /var/lib/cni/sriov
	BootIDPath string
	Stderr     io.Writer // gets warnings
	Now        func() time.Time
}

var _ network.Embedded = (*Plugin)(nil)

// Run implements network.Embedded.
func (p *Plugin) Run(ctx context.Context, call network.Call) ([]byte, error) {
	parse := func() (*Conf, error) { return ParseConf(call.Stdin, call.Args) }
	if call.Command != "ADD" && call.Command != "CHECK" {
		// What a later version of us would refuse must still be released.
		parse = func() (*Conf, error) { return decodeAnyhow(call.Stdin) }
	}
	conf, err := parse()
	if err != nil || call.Command == "STATUS" {
		return nil, err // a missing PF is no reason for a node to be NotReady
	}
	j, err := p.begin(call, conf)
	if err != nil {
		return nil, err
	}
	defer j.end()
	switch call.Command {
	case "ADD":
		for _, key := range unknown(call.Stdin) {
			j.log.Warn("key is not known and has no effect: see docs/sriov.md for the keys", "key", key, "network", conf.Name)
		}
		return j.add(ctx)
	case "DEL":
		return nil, j.del(ctx)
	case "CHECK":
		return nil, j.check(ctx)
	case "GC": // of VFs: Collect
		_, err = j.ipam(ctx)
		return nil, err
	}
	return nil, network.Environment.Errorf("sriov: CNI_COMMAND %q is not known", call.Command)
}

// job is one call.
type job struct {
	*Plugin
	call    network.Call
	conf    *Conf
	claims  Claims
	boot    string
	host    Netns
	log     *slog.Logger
	logFile *os.File
}

func (p *Plugin) begin(call network.Call, conf *Conf) (*job, error) {
	j := &job{Plugin: p, call: call, conf: conf, claims: NewClaims(call.StateDir, p.Foreign)}
	var err error
	if j.boot, err = podns.BootID(p.BootIDPath); err != nil {
		return nil, network.IO.Errorf("%w", err)
	}
	if j.host, err = p.Kernel.Open(""); err != nil {
		return nil, err
	}
	j.openLog()
	return j, nil
}

func (j *job) end() {
	j.host.Close()
	if j.logFile != nil {
		_ = j.logFile.Close() // was written through
	}
}

// openLog makes the log that the network's configuration asks for: of
// warnings on standard error without one. A file that cannot be opened is
// said there, and fails no pod.
func (j *job) openLog() {
	level := map[string]slog.Level{
		"debug": slog.LevelDebug, "info": slog.LevelInfo, "": slog.LevelWarn, "warning": slog.LevelWarn,
		"error": slog.LevelError, "panic": slog.LevelError + 4,
	}[strings.ToLower(j.conf.LogLevel)]
	to := j.Stderr
	var err error
	if j.conf.LogFile != "" {
		if j.logFile, err = lockfile.OpenAppend(j.conf.LogFile); err == nil {
			to = j.logFile
		} else {
			j.logFile = nil
		}
	}
	j.log = slog.New(slog.NewTextHandler(to, &slog.HandlerOptions{Level: level})).
		With("plugin", "sriov", "container", j.call.ContainerID, "ifname", j.call.IfName)
	if err != nil {
		j.log.Error("logFile cannot be opened", "error", err.Error())
	}
}

// pod is the pod's name as CNI_ARGS has it, "" for a container that is none.
func (j *job) pod() string {
	var namespace, name string
	for pair := range strings.SplitSeq(j.call.Args, ";") {
		key, value, _ := strings.Cut(pair, "=")
		switch key {
		case "K8S_POD_NAMESPACE":
			namespace = value
		case "K8S_POD_NAME":
			name = value
		}
	}
	if name == "" {
		return ""
	}
	return namespace + "/" + name
}

// save writes a record down where a DEL and others find it: from here on the
// VF may be touched.
func (j *job) save(r *Record) error {
	if j.call.State != nil {
		raw, err := json.Marshal(r)
		if err != nil {
			return err
		}
		if err = j.call.State.Save(raw); err != nil {
			return err
		}
	}
	return errors.Join(j.claims.put(r), j.claims.putForeign(r))
}

// recorded returns what this attachment's ADD wrote down, nil if it came to
// nothing. Without a journal the claims know.
func (j *job) recorded() (*Record, error) {
	if j.call.State != nil {
		raw := j.call.State.Load()
		if len(raw) == 0 { // ADD writes it first
			return nil, nil
		}
		var r Record
		if err := json.Unmarshal(raw, &r); err == nil && r.sound() {
			return &r, nil
		}
		j.log.Warn("the journal's record of the VF is damaged: looking for its claim")
	}
	all, err := j.claims.All()
	for _, r := range all {
		if r.isOf(j.call.ContainerID, j.call.IfName) {
			return r, nil
		}
	}
	if err != nil {
		return nil, errors.Join(network.IO.Errorf("sriov: whose VF it is cannot be told"), err)
	}
	return nil, nil
}
