package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// In the agent's container a look goes where the agent goes; what is given
// counts more, and another first process does not count.
func TestFlagsOfTheAgent(t *testing.T) {
	agent := []string{"/usr/bin/multiplexerd", "run", "--install=true", "--cni-conf-dir=/c", "--cni-bin-dir", "/b", "--state-dir=/s", "--cluster-cidrs=10.0.0.0/8", "--metrics-address=:1"}
	for name, test := range map[string]struct {
		line, given []string
		want        map[string]string
	}{
		"the agent":       {agent, nil, map[string]string{"cni-conf-dir": "/c", "cni-bin-dir": "/b", "state-dir": "/s", "metrics-address": ":1", "runtime": ""}},
		"given":           {agent, []string{"--state-dir=/mine"}, map[string]string{"state-dir": "/mine", "cni-conf-dir": "/c"}},
		"another program": {[]string{"/sbin/init", "run", "--state-dir=/s"}, nil, map[string]string{"state-dir": ""}},
		"another command": {[]string{"multiplexerd", "pause", "--state-dir=/s"}, nil, map[string]string{"state-dir": ""}},
		"a later agent":   {append(agent[:len(agent):len(agent)], "--of-tomorrow=1"), nil, map[string]string{"state-dir": ""}},
		"nothing":         {[]string{""}, nil, map[string]string{"state-dir": ""}},
	} {
		cmd := doctorCommand()
		if err := cmd.Flags().Parse(test.given); err != nil {
			t.Fatal(err)
		}
		if err := takeFlags(cmd.Flags(), test.line); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for flag, want := range test.want {
			if got := cmd.Flags().Lookup(flag).Value.String(); got != want {
				t.Errorf("%s: --%s is %q, want %q", name, flag, got, want)
			}
		}
	}
}

func TestMountPoints(t *testing.T) {
	const info = "22 1 0:20 / / ro - overlay o rw\n23 22 0:21 / /proc rw - proc proc rw\n24 22 8:1 /x /etc/cni/net.d rw master:1 - ext4 /dev/sda rw\n"
	if diff := cmp.Diff([]string{"/proc", "/etc/cni/net.d"}, mountPoints(info)); diff != "" {
		t.Error(diff)
	}
}
