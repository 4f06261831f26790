package sriovguest

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
	"github.com/multiplexer-cni/multiplexer/pkg/provision"
	"github.com/multiplexer-cni/multiplexer/pkg/resource"
)

// daemon is multiplexerd with the flags of this machine's directories.
func (m *machine) daemon(verb string, more ...string) *exec.Cmd {
	m.t.Helper()
	program, err := nettest.AgentPath()
	m.must(err)
	return exec.CommandContext(m.t.Context(), program, append([]string{
		verb, "--cni-conf-dir", m.in("cluster"), "--cni-bin-dir", m.in("bin"), "--runtime", "containerd",
	}, more...)...)
}

// stateFiles are the files below the state directory, less the locks.
func (m *machine) stateFiles() (files []string) {
	m.t.Helper()
	m.must(filepath.WalkDir(m.in("state"), func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && filepath.Ext(path) != ".lock" {
			files = append(files, strings.TrimPrefix(path, m.in("state")+"/"))
		}
		return err
	}))
	return files
}

// Uninstall brings home what the agent made and what pods have: afterwards the
// cards are as they were before the installation, be the pods drained or their
// networks taken away.
func TestUninstallBringsVFsHome(t *testing.T) {
	s := newSetter(t)
	s.must(os.Mkdir(s.in("bin"), 0o755))
	for _, plugin := range []string{"bridge", "host-local"} {
		s.must(os.Symlink(filepath.Join(nettest.Plugins(t), plugin), filepath.Join(s.in("bin"), plugin)))
	}
	before := s.cards() // the first PF down and without VFs, the second with an operator's
	install := func() {
		t.Helper()
		if out, err := s.daemon("install", "--plugin", nettest.Binary(t), "--set", "agentSocket=", "--set", "stateDir="+s.in("state"), "--set", "confDir="+s.in("net.d")).CombinedOutput(); err != nil {
			t.Fatalf("install: %v: %s", err, out)
		}
	}
	for _, force := range []bool{false, true} {
		install()
		stop := s.begin(resource.PF{Name: s.name, NumVFs: 3, MTU: 2000})
		s.reaches(provision.Done)
		ours, err := sys.PF(s.pfs[0].PCI)
		s.must(err)
		s.network("ours", obj{"type": "sriov", "deviceID": ours.VFs[0], "vlan": 7, "spoofchk": "off", "ipam": s.ipam("10.56.40.0/24")})
		s.network("theirs", obj{"type": "sriov", "deviceID": s.pfs[1].VFs[2], "mac": "02:00:00:00:77:01", "ipam": s.ipam("10.56.41.0/24")})
		p := s.pod("ours,theirs").add()
		p.inPod("ip", "link", "set", "net1", "down")
		p.inPod("ip", "link", "set", "net1", "name", "stolen")
		stop()

		args := []string{"--state-dir", s.in("state"), "--pod-resources-socket", "", "--udev-dir", "", "--settle", "10ms", "--timeout", "2m"}
		if force {
			args = append(args, "--force")
		}
		going := s.daemon("uninstall", args...)
		var said strings.Builder
		going.Stdout, going.Stderr = &said, &said
		s.must(going.Start())
		if !force {
			s.eventually("no pod gets networks", func() error {
				_, serr := os.Stat(s.in("state/uninstalling"))
				return serr
			})
			if now, perr := sys.PF(ours.PCI); perr != nil || len(now.VFs) != 3 {
				t.Errorf("VFs go home while a pod has one: %v, %+v", perr, now)
			}
			p.do("DEL")
		}
		if err = going.Wait(); err != nil {
			t.Fatalf("uninstall (force %v): %v: %s", force, err, said.String())
		}
		s.eventually("the cards are as before the installation", func() error {
			if after := s.cards(); after != before {
				return fmt.Errorf("force %v:\n%s\nbefore:\n%s", force, after, before)
			}
			return nil
		})
		if now, perr := sys.PF(ours.PCI); perr != nil || len(now.VFs) != 0 || sys.Autoprobe(ours.PCI) {
			t.Errorf("%v, %+v", perr, now)
		}
		if force { // it has its cluster network still
			p.do("DEL")
		}
		if left := s.stateFiles(); !slices.Equal(left, []string{"provision.json", "uninstalling"}) {
			t.Errorf("force %v: left in stateDir: %q", force, left)
		}
		if status, rerr := provision.ReadStatus(s.in("state")); rerr != nil || len(status) > 0 {
			t.Errorf("force %v: provision.json: %v, %+v", force, rerr, status)
		}
		for _, file := range []string{s.in("cluster/00-multiplexer.conflist"), s.in("bin/multiplexer")} {
			if _, serr := os.Stat(file); !os.IsNotExist(serr) {
				t.Errorf("%s: %v", file, serr)
			}
		}
	}
}
