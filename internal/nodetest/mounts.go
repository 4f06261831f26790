package nodetest

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// mount is one line of a node's mount table.
type mount struct {
	source, target, kind string
	flags                uintptr
	data                 string
}

// kept are the directories that a node may write, and a reboot does not empty;
// the machine's files shine through.
func kept() []string { return []string{"/etc", "/opt", "/var/lib"} }

// isolate keeps the node's mounts from the machine. What is unmounted on the
// machine goes here too: a test's namespace must not live on because of a node.
func isolate() error {
	return mount{"", "/", "", unix.MS_SLAVE | unix.MS_REC, ""}.do()
}

// mountAll makes what the node's programs see of the machine, but /proc. It
// runs on a thread of the node.
func (n *Node) mountAll() error {
	bind := uintptr(unix.MS_BIND | unix.MS_REC)
	table := []mount{
		{"tmpfs", "/run", "tmpfs", 0, "mode=755"},
		{"tmpfs", "/var/log", "tmpfs", 0, "mode=755"},
		// A sysfs of this network namespace, with the machine's cgroups.
		{cgroupRoot, "/run/cgroup", "", bind, ""},
		{"sysfs", "/sys", "sysfs", 0, ""},
		{"/run/cgroup", cgroupRoot, "", bind, ""},
	}
	for _, dir := range kept() {
		upper, work := n.disk(dir, "upper"), n.disk(dir, "work")
		table = append(table, mount{"overlay", dir, "overlay", 0, fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", dir, upper, work)})
	}
	table = append(table,
		// No overlay above: containerd makes overlays there itself.
		mount{n.disk("kubelet"), "/var/lib/kubelet", "", bind, ""},
		mount{n.disk("containerd"), "/var/lib/containerd", "", bind, ""},
		// kubelet wants these values, and would write them for the whole machine.
		mount{n.disk("one"), "/proc/sys/vm/overcommit_memory", "", bind, ""},
		mount{n.disk("ten"), "/proc/sys/kernel/panic", "", bind, ""},
		mount{n.disk("one"), "/proc/sys/kernel/panic_on_oops", "", bind, ""},
		mount{n.disk("boot_id"), "/proc/sys/kernel/random/boot_id", "", bind, ""},
		// As on a real node, for volumes that pass mounts on.
		mount{"", "/", "", unix.MS_SHARED | unix.MS_REC, ""},
	)
	for _, m := range table {
		if err := m.do(); err != nil {
			return err
		}
	}
	return errors.Join(os.MkdirAll("/run/netns", 0o755), os.MkdirAll(StaticPods, 0o755))
}

func (m mount) do() error {
	if m.flags&unix.MS_BIND != 0 {
		if info, err := os.Stat(m.source); err == nil && info.IsDir() {
			if err = os.MkdirAll(m.target, 0o755); err != nil {
				return fmt.Errorf("make mount point: %w", err)
			}
		}
	}
	if err := unix.Mount(m.source, m.target, m.kind, m.flags, m.data); err != nil {
		return fmt.Errorf("mount %s at %s: %w", m.source, m.target, err)
	}
	return nil
}

// disk is a path among the files that are the node's disk.
func (n *Node) disk(elements ...string) string {
	return filepath.Join(append([]string{n.dir}, elements...)...)
}

// makeDisk makes what the mounts need; what is there stays, but the boot ID.
func (n *Node) makeDisk() error {
	dirs := []string{n.disk("kubelet"), n.disk("containerd"), n.disk("log")}
	for _, dir := range kept() {
		dirs = append(dirs, n.disk(dir, "upper"), n.disk(dir, "work"))
	}
	for _, dir := range dirs {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make disk: %w", err)
		}
	}
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return err
	}
	bootID := fmt.Sprintf("%x-%x-%x-%x-%x\n", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
	for name, content := range map[string]string{"one": "1\n", "ten": "10\n", "boot_id": bootID} {
		if err := os.WriteFile(n.disk(name), []byte(content), 0o644); err != nil {
			return fmt.Errorf("make disk: %w", err)
		}
	}
	return nil
}
