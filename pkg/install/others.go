package install

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// asideSuffix ends the name of a conf that was taken out of first place. No
// runtime reads it.
const asideSuffix = ".multiplexer-aside"

// checkOthers looks for what the runtime reads before our conf.
func (n *Installer) checkOthers() error {
	files, err := n.host().folder().Files(n.Paths.ConfDir, network.ConfExtensions()...)
	if err != nil {
		return err
	}
	before := slices.DeleteFunc(files, func(f string) bool { return filepath.Base(f) >= ConfName })
	for about := range n.said {
		reason, file, _ := strings.Cut(about, " ")
		if Reason(reason) == ConfShadowed && !slices.Contains(before, file) {
			n.hush(ConfShadowed, file)
		}
	}
	for _, file := range before {
		if err = n.checkOther(file); err != nil {
			return err
		}
	}
	return nil
}

func (n *Installer) checkOther(file string) error {
	list, err := n.host().folder().List(file, network.AlwaysMore)
	if err != nil {
		n.say(Event{ConfShadowed, true, file, "sorts before our conf and cannot be read; the runtime may serve no pod: " + err.Error()})
		return nil
	}
	meta := slices.IndexFunc(list.Types(), network.MetaPlugin)
	if meta < 0 {
		n.say(Event{ConfShadowed, true, file, fmt.Sprintf("sorts before our conf: pods get network %q alone; give the file a later name, such as 10-%s", list.Name, filepath.Base(file))})
		return nil
	}
	rival := list.Types()[meta]
	switch {
	case !n.TakeOver:
		n.say(Event{ConfShadowed, true, file, fmt.Sprintf("sorts before our conf: pods get their networks from %s; remove one of the two, or install with --take-over", rival)})
	case !n.confs.allow(n.Now()):
		n.say(Event{GivenUp, true, file, fmt.Sprintf("%s's conf is back before ours, and first place was taken %d times within %s: stop %s", rival, retakes, retakeSpell, rival)})
	default:
		if err = n.moveAside(file, rival); err != nil {
			n.confs.forget()
		}
		return err
	}
	return nil
}

// moveAside takes another meta-plugin's conf out of first place. It is
// written down before, so that it can be given its name back. A rival that
// writes the same again and again fills neither the directory nor the record.
func (n *Installer) moveAside(file, rival string) error {
	h := n.host()
	to, newest := file+asideSuffix, ""
	for i := 2; h.exists(to); i++ {
		to, newest = fmt.Sprintf("%s%s.%d", file, asideSuffix, i), to
	}
	again := newest != "" && h.same(file, newest)
	if again {
		to = newest
	}
	if err := n.recordNow(move{From: file, To: to}); err != nil {
		return err
	}
	take, became := func() error { return h.move(file, to) }, "is "+filepath.Base(to)+" now"
	if again {
		take, became = func() error { return h.remove(file) }, "is removed, since "+filepath.Base(to)+" is the same"
	}
	if err := take(); err != nil {
		return err
	}
	n.tell(Event{MovedAside, true, file, fmt.Sprintf("%s's conf sorted before ours and %s; uninstall --restore gives it its name back", rival, became)})
	return nil
}

// same reports whether two files can be read and have the same content.
func (h host) same(a, b string) bool {
	one, err := h.read(a)
	if err != nil {
		return false
	}
	other, err := h.read(b)
	return err == nil && bytes.Equal(one, other)
}
