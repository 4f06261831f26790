package killtest

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// column is a moment at which a disturbance comes.
type column string

const (
	duringADD       column = "ADD"
	duringDEL       column = "DEL"
	idle            column = "idle"
	duringInstall   column = "install"
	duringUpgrade   column = "upgrade"
	duringUninstall column = "uninstall"
)

func columns() []column {
	return []column{duringADD, duringDEL, idle, duringInstall, duringUpgrade, duringUninstall}
}

// without says why a row has nothing to do at a moment, "" if it has.
func (d disturbance) without(c column) string {
	switch {
	case d.plugin && c == idle:
		return "no call runs"
	case d.plugin && c == duringInstall:
		return "the runtime calls it when its conf is there"
	}
	return ""
}

// row is one disturbance and the parts that the nodes play in it.
type row struct {
	disturbance
	works, fresh, upgraded, leaving *bed
	add, del, during                *corev1.Pod
	before                          map[*bed]string // snapshots
}

func TestKillMatrix(t *testing.T) {
	rows := 0 // that were run
	for _, d := range disturbances() {
		run := func(t *testing.T) {
			at := func(part int) *bed { return beds[(rows+part)%len(beds)] }
			r := &row{disturbance: d, works: at(2), upgraded: at(1), leaving: at(0), fresh: at(3), before: map[*bed]string{}}
			rows++
			r.run(t)
		}
		if !t.Run(d.name, run) {
			t.Fatal("the rows after that need these nodes, and are left out")
		}
	}
}

func (r *row) run(t *testing.T) {
	watch(t)
	began := time.Now()
	if err := r.begin(); err != nil {
		t.Fatal(err)
	}
	begun := time.Since(began)
	if err := r.do(func() error { return r.fresh.amidInstall() }); err != nil {
		t.Fatal(err)
	}
	done := time.Since(began)
	took := make([]string, len(columns()))
	cells := make([]<-chan error, len(columns()))
	for i, c := range columns() {
		if r.without(c) != "" {
			took[i] = string(c) + " n/a"
			continue
		}
		cells[i] = inBackground(func() error {
			err := r.end(c)
			took[i] = fmt.Sprintf("%s %.1f", c, (time.Since(began) - done).Seconds())
			return err
		})
	}
	for i, c := range columns() {
		if cells[i] == nil {
			continue
		}
		// All of them run at once, and each is told as a test of its own.
		err := <-cells[i]
		t.Run(string(c), func(t *testing.T) {
			if err != nil {
				t.Error(err)
			}
		})
	}
	if t.Failed() {
		return
	}
	checked := time.Since(began)
	if r.without(duringInstall) != "" {
		if err := r.fresh.endInstall(); err != nil {
			t.Fatal(err)
		}
	}
	if err := each(beds, r.settled); err != nil {
		t.Error(err)
	}
	for _, b := range beds {
		b.rebooted, b.calls = false, 0
	}
	fmt.Printf("%s: %.1f s (%.1f s to the moment, %.1f s of it, %.1f s until all was right: %s; %.1f s to look)\n", r.name, time.Since(began).Seconds(),
		begun.Seconds(), (done - begun).Seconds(), (checked - done).Seconds(), strings.Join(took, ", "), (time.Since(began) - checked).Seconds())
}

// begin brings each node to its moment.
func (r *row) begin() error {
	r.add, r.del, r.during = r.works.multiPod("add"), r.works.multiPod("del"), r.upgraded.multiPod("during")
	r.works.calls, r.upgraded.calls, r.leaving.calls = 2, 1, 1
	var mu sync.Mutex
	return each(beds, func(b *bed) error {
		if b == r.works || b == r.upgraded {
			snapshot, err := b.still()
			if err != nil {
				return err
			}
			mu.Lock()
			r.before[b] = snapshot
			mu.Unlock()
		}
		switch b {
		case r.works:
			if _, err := b.runs(r.del); err != nil {
				return err
			}
			return inOrder(func() error { return b.begins(r.add) }, func() error { return b.ends(r.del) })
		case r.fresh:
			return b.beginInstall()
		case r.upgraded:
			return b.beginUpgrade(r.during)
		default:
			return b.beginUninstall()
		}
	})
}

// end is what must become of a moment that was disturbed.
func (r *row) end(c column) error {
	b := r.works
	switch c {
	case duringADD:
		return inOrder(
			func() error { return b.open("ADD", r.add) },
			func() error { _, err := b.works(r.add); return err },
			func() error { return cluster.DeletePod(r.add.Namespace, r.add.Name) },
		)
	case duringDEL:
		return inOrder(
			func() error { return b.open("DEL", r.del) },
			func() error { return cluster.WaitGone(r.del.Namespace, r.del.Name) },
		)
	case idle:
		return inOrder(b.stay, b.ofThisBoot)
	case duringInstall:
		return r.fresh.endInstall()
	case duringUpgrade:
		return r.upgraded.endUpgrade(r.during)
	default:
		return r.leaving.endUninstall()
	}
}

// settled makes sure that nothing is left over on a node, and nothing missing.
func (r *row) settled(b *bed) error {
	if err := cluster.WaitReady(b.Node); err != nil {
		return err
	}
	if err := b.clean(); err != nil {
		return err
	}
	switch {
	case b == r.leaving:
		return b.same(b.empty)
	case b == r.fresh, r.reboot: // other names and addresses than before
		return nil
	}
	return b.same(r.before[b])
}
