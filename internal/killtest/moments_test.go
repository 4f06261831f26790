package killtest

import (
	"errors"
	"fmt"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/multiplexer-cni/multiplexer/pkg/journal"
)

const (
	conf   = "/etc/cni/net.d/00-multiplexer.conflist"
	plugin = "/opt/cni/bin/multiplexer"
	marker = "/var/lib/cni/multiplexer/uninstalling"
)

// beginInstall makes a node new that has no network yet, and installs
// multiplexer as far as it goes without one.
func (b *bed) beginInstall() error {
	b.version = first
	return inOrder(
		func() error { return b.remove(clusterConf) },
		func() error { return b.apply(agents, b.version) },
		func() error { return b.until("the plugin is there", func() error { return b.has(plugin) }) },
		func() error { return b.hasNot(conf) },
	)
}

// amidInstall is the arrival of the cluster network.
func (b *bed) amidInstall() error { return b.Write(clusterConf, b.conf) }

func (b *bed) endInstall() error {
	if err := b.installed(); err != nil {
		return err
	}
	if err := cluster.WaitReady(b.Node); err != nil {
		return err
	}
	multi, plain := b.multiPod("multi"), b.plainPod("plain")
	for _, pod := range []*corev1.Pod{multi, plain} {
		if err := cluster.CreatePod(pod); err != nil {
			return err
		}
	}
	var err error
	if b.multi, err = b.works(multi); err != nil {
		return err
	}
	peers.add(b.multi)
	b.plain, err = b.works(plain)
	return err
}

// beginUpgrade replaces the DaemonSet's image in the middle of an ADD.
func (b *bed) beginUpgrade(during *corev1.Pod) error {
	old, err := b.daemons(agents)
	if err != nil {
		return err
	}
	if len(old) != 1 {
		return fmt.Errorf("%s has %d agents before the upgrade", b.Name, len(old))
	}
	b.version = second
	return inOrder(
		func() error { return b.begins(during) },
		func() error { return b.apply(agents, b.version) },
		func() error {
			// It may be gone before anybody looks.
			return b.until("the old agent has been told to end", func() error {
				now, listErr := b.daemons(agents)
				for i := range now {
					if now[i].UID == old[0].UID && now[i].DeletionTimestamp == nil {
						listErr = errors.New("it has not")
					}
				}
				return listErr
			})
		},
	)
}

func (b *bed) endUpgrade(during *corev1.Pod) error {
	return inOrder(
		func() error { return b.open("ADD", during) },
		b.installed,
		func() error { _, err := b.works(during); return err },
		b.stay,
		b.ofThisBoot,
		func() error { return cluster.DeletePod(during.Namespace, during.Name) },
	)
}

// beginUninstall takes multiplexer off a node in the middle of the DEL of its
// last pod with two networks.
func (b *bed) beginUninstall() error {
	peers.remove(b.multi)
	return inOrder(
		func() error { return b.apply(uninstaller, b.version) },
		func() error { return b.until("the uninstallation has begun", func() error { return b.has(marker) }) },
		func() error { return b.ends(b.multi) },
		func() error { return b.has(conf) },
	)
}

func (b *bed) endUninstall() error {
	late := b.plainPod("late")
	err := inOrder(
		func() error { return b.open("DEL", b.multi) },
		func() error { return cluster.WaitGone(b.multi.Namespace, b.multi.Name) },
		func() error {
			return b.until("the node is uninstalled", func() error { return b.ready(uninstaller) })
		},
		func() error { return errors.Join(b.hasNot(conf), b.hasNot(plugin)) },
		func() error { return cluster.WaitReady(b.Node) },
		func() error { return cluster.CreatePod(late) },
		func() error { _, err := b.works(late); return err },
		func() error { _, err := b.works(b.plain); return err },
		b.forget,
		func() error { return cluster.DeletePod(b.plain.Namespace, b.plain.Name) },
		func() error { return cluster.DeletePod(late.Namespace, late.Name) },
		func() error { return b.deleteDaemonSet(uninstaller) },
		func() error { return b.deleteDaemonSet(agents) },
		func() error { return errors.Join(b.hasNot(conf), b.hasNot(plugin)) },
	)
	if err != nil {
		return err
	}
	b.multi, b.plain, b.version = nil, nil, ""
	return nil
}

// forget notes whose journals stay: those of the pods that are left.
func (b *bed) forget() error {
	containers, err := b.journals().Containers()
	for _, container := range containers {
		b.forgotten[container] = true
	}
	return err
}

func (b *bed) journals() *journal.Store {
	return &journal.Store{Dir: b.Path("/var/lib/cni/multiplexer"), Now: time.Now}
}

func (b *bed) has(path string) error {
	_, err := os.Lstat(b.Path(path))
	return err
}

func (b *bed) hasNot(path string) error {
	switch err := b.has(path); {
	case err == nil:
		return fmt.Errorf("%s is still on %s", path, b.Name)
	case !errors.Is(err, os.ErrNotExist):
		return err
	}
	return nil
}

func (b *bed) remove(path string) error {
	_, err := b.Output("rm", path)
	return err
}
