package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/multiplexer-cni/multiplexer/pkg/install"
	"github.com/multiplexer-cni/multiplexer/pkg/k8sclient"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// fewFree is how many bytes or inodes of the file system must be free.
const (
	fewBytes  = 16 << 20
	fewInodes = 64
)

// checkState is about the directory of the journals.
func (s *sight) checkState(context.Context) []Finding {
	dir := s.stateDir()
	wrong := s.otherState()
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist) && s.absent():
		return notHere()
	case errors.Is(err, fs.ErrNotExist):
		return append(wrong, warn("run multiplexerd install; if it is elsewhere, correct stateDir or --state-dir", "%s does not exist yet", dir))
	case err != nil:
		return []Finding{fail("run this as root", "%s", err)}
	case !info.IsDir():
		return []Finding{fail("take it away, or set stateDir", "%s is no directory", dir)}
	}
	if err = unix.Access(dir, unix.W_OK); err != nil {
		wrong = append(wrong, fail("make it writable: no pod with networks starts without a journal", "%s cannot be written to: %s", dir, err))
	}
	wrong = append(wrong, freeSpace(dir)...)
	wrong = append(wrong, guarded(dir)...)
	if s.wordErr != nil {
		wrong = append(wrong, warn("start the agent, which writes it anew", "%s", s.wordErr))
	}
	switch {
	case s.unreadable != nil:
		wrong = append(wrong, fail("look at the file system", "whether the node is being uninstalled is not known: %s", s.unreadable))
	case s.uninstall != nil && !s.uninstalled():
		wrong = append(wrong, warn("wait for multiplexerd uninstall; if it has ended with an error, run it again; "+install.Again,
			"the node is being uninstalled%s: pods that ask for networks wait", s.uninstall.When()))
	}
	return orOK(wrong, "%s, writable, root's alone", dir)
}

// otherState is for another directory than the plugin's.
func (s *sight) otherState() []Finding {
	if s.StateDir == "" || s.placed == nil || s.configErr != nil || filepath.Clean(s.StateDir) == filepath.Clean(s.config.StateDir) {
		return nil
	}
	return []Finding{warn("leave --state-dir out; if it is the agent's, make the two one directory: uninstall refuses it",
		"--state-dir is %s, and stateDir of %s is %s, where the plugin has its journals", s.StateDir, s.placed.Path, s.config.StateDir)}
}

func (s *sight) exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func freeSpace(dir string) []Finding {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return nil
	}
	const remedy = "free some: nothing is attached without a journal"
	if free := st.Bavail * uint64(st.Bsize); free < fewBytes { //nolint:gosec // a block's size is not negative
		return []Finding{fail(remedy, "the file system of %s has %d KiB free", dir, free>>10)}
	}
	if st.Files > 0 && st.Ffree < fewInodes {
		return []Finding{fail(remedy, "the file system of %s has %d inodes free", dir, st.Ffree)}
	}
	return nil
}

// guarded looks at owners and modes. What another user may write decides what
// root runs; what it may read can hold a network's secrets.
func guarded(dir string) []Finding {
	var wrong []Finding
	_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil // gone since: journals come and go
		}
		if f := guard(path, e, path == dir); f != nil {
			wrong = append(wrong, *f)
		}
		return nil
	})
	const most = 5
	if len(wrong) > most {
		wrong = append(wrong[:most], warn("chown -R root: "+dir+" && chmod -R go-rwx "+dir, "%d more files of %s are like that", len(wrong)-most, dir))
	}
	return wrong
}

func tighten(path string, top bool) string {
	if top {
		return "restart the agent, which does it, or chmod go-rwx " + path
	}
	return "chmod go-rwx " + path
}

func guard(path string, e fs.DirEntry, top bool) *Finding {
	info, err := e.Info()
	if err != nil {
		return nil
	}
	var st unix.Stat_t
	if unix.Lstat(path, &st) != nil {
		return nil
	}
	var f Finding
	switch mode := info.Mode(); {
	case mode&fs.ModeSymlink != 0:
		f = warn("remove it, and see who made it", "%s is a link: it is not followed", path)
	case int(st.Uid) != os.Geteuid() && st.Uid != 0:
		f = fail("chown root: "+path, "%s belongs to user %d", path, st.Uid)
	case mode.Perm()&0o022 != 0:
		f = fail("chmod go-rwx "+path, "others may write to %s (mode %s)", path, octal(mode))
	case mode.Perm()&0o077 != 0:
		f = warn(tighten(path, top), "others may read %s (mode %s)", path, octal(mode))
	default:
		return nil
	}
	return &f
}

func octal(mode fs.FileMode) string { return fmt.Sprintf("%04o", mode.Perm()) }

// checkDefinitions is about the kind of the definitions and what the cluster
// has of it.
func (s *sight) checkDefinitions(ctx context.Context) []Finding {
	if s.Cluster == nil {
		return []Finding{na("%s", s.WithoutCluster)}
	}
	all, err := s.Cluster.Definitions(ctx)
	if err != nil {
		remedy := "see the rights above, and that the API server can be reached from here"
		if errors.Is(err, k8sclient.ErrNoKind) {
			remedy = "apply deploy/network-attachment-definitions.yaml"
		}
		return []Finding{fail(remedy, "%s", err)}
	}
	return []Finding{ok("%d NetworkAttachmentDefinitions", len(all))}
}

// checkRanges is about what a pod's moved default route leaves with the
// cluster network.
func (s *sight) checkRanges(context.Context) []Finding {
	if s.config.Routing.Mode == network.RoutingPlain {
		return []Finding{na("routing.mode is plain: routes are left as the networks set them")}
	}
	if s.absent() {
		return notHere()
	}
	ranges := s.ranges()
	const remedy = "name the ranges of pods and Services in clusterCIDRs, or in the agent's --cluster-cidrs"
	switch {
	case len(ranges) == 0:
		return []Finding{warn(remedy, "no range of the cluster is known: a pod whose default-route is another network's would send the cluster's traffic there")}
	case len(s.config.ClusterCIDRs) == 0 && !anyWider(ranges):
		return []Finding{warn(remedy, "known are %s: whether the pods of other nodes are among them is not; a pod whose default-route is another network's might send that traffic there", words(ranges))}
	}
	return []Finding{ok("%s", words(ranges))}
}
