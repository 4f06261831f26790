package install

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// Follow keeps plugin and conf in place, and the conf made for the cluster
// network of today, until ctx ends. A conf that is in place stays whatever
// happens: to take it away would start pods with a NIC missing.
func (n *Installer) Follow(ctx context.Context) error {
	w := newWatcher()
	defer w.close()
	for {
		w.add(n.watched()...)
		_, err := n.step(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			n.say(Event{Failed, true, "", err.Error()})
			// The file that a try writes and takes away again is a change too: to
			// wait for one would be to try without end.
			if pause(ctx, min(n.poll(), failedPause)) != nil {
				return nil
			}
			continue
		}
		n.hush(Failed, "")
		if !w.wait(ctx, n.pause()) {
			return nil
		}
	}
}

// failedPause is how long a node that refuses a change is left alone.
const failedPause = 5 * time.Second

// step looks at the node once and puts right what is not. It reports whether
// our conf is in place and made for today's cluster network.
func (n *Installer) step(ctx context.Context) (placed bool, err error) {
	err = n.locked(ctx, func() error {
		m, merr := n.uninstalling()
		if merr != nil {
			return merr
		}
		if m != nil {
			n.say(Event{Uninstalling, false, n.markerPath(), "this node is being uninstalled: plugin and conf are left as they are"})
			return nil
		}
		n.hush(Uninstalling, n.markerPath())
		if perr := n.checkPlugin(ctx); perr != nil {
			return perr
		}
		var cerr error
		if placed, cerr = n.checkConf(); cerr != nil {
			return cerr
		}
		return n.checkOthers()
	})
	return placed, err
}

// checkConf puts our conf in place, if it is to be.
func (n *Installer) checkConf() (placed bool, err error) {
	copies := n.copies() // before: one that is made after we looked says who took the conf
	there, err := n.conf()
	if err != nil {
		return false, err
	}
	want, err := n.wanted()
	// Most programs write their file in place: what cannot be read may be
	// there in a moment, and only what stays so is told.
	doubt := ""
	if err != nil && !errors.Is(err, network.ErrNoCluster) {
		doubt = err.Error()
	}
	n.soon, n.doubt = doubt != n.doubt, doubt
	if err != nil {
		if !n.soon {
			n.sayMissing(there, err)
		}
		return false, nil
	}
	n.hush(ClusterMissing, n.Paths.ConfDir)
	switch {
	case bytes.Equal(there, want):
		n.last = want
		n.hush(GivenUp, n.confPath())
		return true, n.drop(copies)
	case n.last == nil, there != nil && bytes.Equal(there, n.last):
		if err = n.sameState(); err == nil {
			err = n.leaveState()
		}
		if err != nil {
			return false, err
		}
		if err = n.placeConf(want); err == nil {
			n.tell(Event{ConfWritten, false, n.confPath(), "pods get their networks from multiplexer; the conf is made " + how(there, want)})
		}
		return err == nil, err
	}
	return n.retake(there, want)
}

// how says for what a conf was made, and anew, which keys that changes: the
// options are those of now alone.
func how(old, conf []byte) string {
	if !json.Valid(old) { // or there was none
		return "for the cluster network as it is now"
	}
	var changed, added, gone []string
	was, is := entryOf(old), entryOf(conf)
	for _, key := range differing(conf, old) {
		switch {
		case was[key] == nil:
			added = append(added, key)
		case is[key] == nil:
			gone = append(gone, key)
		default:
			changed = append(changed, key)
		}
	}
	text, before := "anew", ": "
	for _, part := range []struct {
		what string
		keys []string
	}{{"changed: ", changed}, {"added: ", added}, {"left out: ", gone}} {
		if len(part.keys) > 0 {
			text, before = text+before+part.what+strings.Join(part.keys, ", "), "; "
		}
	}
	return text
}

// wanted makes the conf for the cluster network as it is now.
func (n *Installer) wanted() ([]byte, error) {
	config, _, err := n.settings().parse()
	if err != nil {
		return nil, err
	}
	cluster, err := n.host().cluster(config, n.Paths.ConfDir)
	if err != nil {
		return nil, err
	}
	return Conflist(cluster, n.settings())
}

func (n *Installer) sayMissing(there []byte, cause error) {
	what := "the conf is put in place when there is one"
	switch {
	case there != nil:
		what = "the conf stays, and new pods wait"
	case n.last != nil:
		what = "our conf was removed too, and comes back with the cluster network"
	}
	if errors.Is(cause, network.ErrChained) {
		cause = fmt.Errorf("%w; install does not make a conf for that: write it by hand, or take multiplexer out of the list", cause)
	}
	n.say(Event{ClusterMissing, true, n.Paths.ConfDir, cause.Error() + ": " + what})
}

// retake puts our conf back where somebody took or changed it.
func (n *Installer) retake(there, want []byte) (bool, error) {
	what := "was removed"
	if there != nil {
		what = "was changed (" + strings.Join(differing(n.last, there), ", ") + ")"
	} else if copies := n.copies(); len(copies) > 0 {
		what = "was renamed to " + filepath.Base(copies[0])
		if strings.HasSuffix(copies[0], ".cilium_bak") {
			what += " (Cilium does so; set its cni.exclusive to false)"
		}
	}
	if !n.confs.allow(n.Now()) {
		n.say(Event{GivenUp, true, n.confPath(), fmt.Sprintf("our conf %s, and was put back %d times within %s: stop whoever does that", what, retakes, retakeSpell)})
		return false, nil
	}
	if err := n.placeConf(want); err != nil {
		n.confs.forget()
		return false, err
	}
	n.tell(Event{ConfTaken, true, n.confPath(), "our conf " + what + ": it is put back; options belong into the installation's own configuration, not into the file"})
	return true, n.drop(n.copies())
}

// copies are files that were our conf before somebody renamed it.
func (n *Installer) copies() []string {
	h := n.host()
	entries, err := h.folder().ReadDir(n.Paths.ConfDir)
	if err != nil {
		return nil
	}
	var copies []string
	for _, e := range entries {
		path := filepath.Join(n.Paths.ConfDir, e.Name())
		if !strings.HasPrefix(e.Name(), ConfName+".") || e.IsDir() {
			continue
		}
		if raw, rerr := h.read(path); rerr == nil && ours(raw) {
			copies = append(copies, path)
		}
	}
	return copies
}

// drop removes copies: whoever renamed our conf would give it its name back
// after we were uninstalled.
func (n *Installer) drop(copies []string) error {
	var failed []error
	for _, path := range copies {
		failed = append(failed, n.host().remove(path))
	}
	return errors.Join(failed...)
}

// ours reports whether a conf is multiplexer's, by the plugin inside.
func ours(raw []byte) bool {
	list, err := network.ParseList("conf", "", raw)
	return err == nil && slices.Contains(list.Types(), PluginName)
}
