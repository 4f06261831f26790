package killtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
	nadv1 "github.com/k8snetworkplumbingwg/network-attachment-definition-client/pkg/apis/k8s.cni.cncf.io/v1"
	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"

	"github.com/multiplexer-cni/multiplexer/internal/nettest"
	"github.com/multiplexer-cni/multiplexer/internal/nodetest"
)

// patience is how long the node may take until something is right.
func patience() time.Duration { return 4*time.Minute + limits().outage }

// until returns when the condition holds.
func (b *bed) until(what string, condition func() error) error {
	for end := time.Now().Add(patience()); ; time.Sleep(100 * time.Millisecond) {
		err := condition()
		if err == nil {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s: waited %s in vain until %s: %w", b.Name, patience(), what, err)
		}
	}
}

// installed returns when the agent, plugin and conf of the bed's version are
// there.
func (b *bed) installed() error {
	return b.until("multiplexer "+b.version+" is installed", func() error {
		pods, err := b.daemons(agents)
		if err != nil {
			return err
		}
		if len(pods) != 1 || !strings.HasSuffix(pods[0].Spec.Containers[0].Image, ":"+b.version) {
			return fmt.Errorf("%d agents", len(pods))
		}
		if err = b.healthy(); err != nil {
			return err
		}
		out, err := b.Output("sh", "-c", plugin+" 2>&1")
		if err != nil {
			return err
		}
		if !strings.HasPrefix(string(out), "CNI plugin multiplexer "+b.version+"\n") {
			return fmt.Errorf("the plugin is %q", out)
		}
		return b.has(conf)
	})
}

// healthy asks the agent whether it is ready.
func (b *bed) healthy() error {
	dial := func(_ context.Context, network, address string) (net.Conn, error) { return b.Dial(network, address) }
	client := &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}, Timeout: 5 * time.Second}
	answer, err := client.Get("http://127.0.0.1:9745/readyz")
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	said, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("/readyz: %s", said)
	}
	return err
}

// ready reports whether the DaemonSet's pod is.
func (b *bed) ready(kind string) error {
	pods, err := b.daemons(kind)
	if err != nil {
		return err
	}
	if len(pods) != 1 {
		return fmt.Errorf("%d pods of %s", len(pods), kind)
	}
	for _, condition := range pods[0].Status.Conditions {
		if condition.Type == corev1.PodReady && condition.Status == corev1.ConditionTrue {
			return nil
		}
	}
	return fmt.Errorf("%s: %s", pods[0].Name, pods[0].Status.Phase)
}

// works returns the pod when it runs, has each of its NICs with its address,
// and packets pass on each.
func (b *bed) works(pod *corev1.Pod) (*corev1.Pod, error) {
	var now *corev1.Pod
	err := b.until("pod "+pod.Name+" works", func() error {
		var err error
		if now, err = cluster.GetPod(pod.Namespace, pod.Name); err != nil {
			return err
		}
		if len(now.Status.ContainerStatuses) != 1 || now.Status.ContainerStatuses[0].State.Running == nil {
			return fmt.Errorf("it is %s: %v", now.Status.Phase, now.Status.ContainerStatuses)
		}
		nics, err := nics(now)
		if err != nil {
			return err
		}
		if err = b.startedWith(now, nics); err != nil {
			return err
		}
		peer, err := peers.of(now)
		if err != nil {
			return err
		}
		return b.InPod(now, func() error { return answered(nics, peer) })
	})
	return now, err
}

// nics are the addresses that the pod's object shows, by NIC.
func nics(pod *corev1.Pod) (map[string][]netip.Addr, error) {
	nics := map[string][]netip.Addr{}
	var ips []string
	for _, ip := range pod.Status.PodIPs {
		address, err := netip.ParseAddr(ip.IP)
		if err != nil {
			return nil, err
		}
		nics["eth0"], ips = append(nics["eth0"], address), append(ips, ip.IP)
	}
	if len(ips) == 0 {
		return nil, fmt.Errorf("%s has no address", pod.Name)
	}
	if pod.Annotations[nadv1.NetworkAttachmentAnnot] == "" {
		return nics, nil
	}
	var list []nadv1.NetworkStatus
	if err := json.Unmarshal([]byte(pod.Annotations[nadv1.NetworkStatusAnnot]), &list); err != nil {
		return nil, fmt.Errorf("network-status of %s: %w", pod.Name, err)
	}
	if len(list) != 2 || list[0].Interface != "eth0" || list[1].Interface != "net1" || len(list[1].IPs) != 1 ||
		!slices.Equal(list[0].IPs, ips) {
		return nil, fmt.Errorf("%s has %s, network-status says %+v", pod.Name, ips, list)
	}
	address, err := netip.ParseAddr(list[1].IPs[0])
	nics["net1"] = []netip.Addr{address}
	return nics, err
}

// startedWith makes sure that the container had its NICs from the beginning.
func (b *bed) startedWith(pod *corev1.Pod, nics map[string][]netip.Addr) error {
	lines, err := b.Log(pod, "app")
	if err != nil {
		return err
	}
	for nic, addresses := range nics {
		for _, address := range addresses {
			if !slices.ContainsFunc(lines, func(line nodetest.Line) bool {
				return strings.HasPrefix(line.Text, "nic "+nic+" ") && strings.Contains(line.Text, " "+address.String()+"/")
			}) {
				return fmt.Errorf("%s started without %s on %s: %v", pod.Name, address, nic, lines)
			}
		}
	}
	return nil
}

// answered makes sure of a pod's NICs, and pings those of another pod. It runs
// inside the pod.
func answered(nics, peer map[string][]netip.Addr) error {
	for nic, addresses := range nics {
		link, err := net.InterfaceByName(nic)
		if err != nil {
			return fmt.Errorf("%s: %w", nic, err)
		}
		has, err := link.Addrs()
		if err != nil {
			return err
		}
		for _, address := range addresses {
			if !slices.ContainsFunc(has, func(a net.Addr) bool { return strings.HasPrefix(a.String(), address.String()+"/") }) {
				return fmt.Errorf("%s has %v, the pod's object says %s", nic, has, address)
			}
		}
		for _, address := range peer[nic] { // there is none for the first pod of all
			if out, pingErr := exec.Command("ping", "-n", "-c", "1", "-W", "1", "-I", nic, address.String()).CombinedOutput(); pingErr != nil {
				return fmt.Errorf("ping %s by %s: %w: %s", address, nic, pingErr, out)
			}
		}
	}
	return nil
}

// stay makes sure that the bed's pods are the ones that they were, in spite of
// all that happened: only a reboot starts their containers anew.
func (b *bed) stay() error {
	for _, pod := range []**corev1.Pod{&b.multi, &b.plain} {
		before := (*pod).Status.ContainerStatuses[0]
		if b.rebooted {
			_, err := cluster.WaitPod((*pod).Namespace, (*pod).Name, "was started anew", func(p *corev1.Pod) (bool, string) {
				return p.Status.ContainerStatuses[0].ContainerID != before.ContainerID, "it was not"
			})
			if err != nil {
				return err
			}
		}
		now, err := b.works(*pod)
		if err != nil {
			return err
		}
		if after := now.Status.ContainerStatuses[0]; !b.rebooted && (after.ContainerID != before.ContainerID || after.RestartCount != before.RestartCount) {
			return fmt.Errorf("pod %s was restarted: %+v, before %+v", now.Name, after, before)
		}
		*pod = now
	}
	return nil
}

// ofThisBoot makes sure that the plugin saw in which boot it attached the
// bed's pods: the node's present one.
func (b *bed) ofThisBoot() error {
	boot, err := b.bootID()
	if err != nil {
		return err
	}
	if b.rebooted && boot == b.boot {
		return fmt.Errorf("%s has the boot ID %s as before", b.Name, boot)
	}
	return b.until("the journals are of boot "+boot, func() error {
		containers, listErr := b.journals().Containers()
		if listErr != nil {
			return listErr
		}
		for _, pod := range []*corev1.Pod{b.multi, b.plain} {
			if !slices.ContainsFunc(containers, func(container string) bool {
				contents, peekErr := b.journals().Peek(container)
				return peekErr == nil && contents.Header.UID == string(pod.UID) && contents.Header.Boot == boot && contents.Complete
			}) {
				return fmt.Errorf("pod %s has none", pod.Name)
			}
		}
		return nil
	})
}

// clean returns when the node has what its living pods need, and no more.
func (b *bed) clean() error {
	return b.until("the node has what its pods need and no more", func() error {
		want := map[string][]string{"journals": {}, "cluster": {}, "lan": {}, "namespaces": {}, "veths": {}, "processes": {}}
		for _, pod := range []*corev1.Pod{b.multi, b.plain} {
			if pod == nil {
				continue
			}
			nics, err := nics(pod)
			if err != nil {
				return err
			}
			want["journals"] = append(want["journals"], string(pod.UID))
			for _, address := range nics["eth0"] {
				want["cluster"] = append(want["cluster"], address.String())
			}
			want["namespaces"] = append(want["namespaces"], "one")
			want["veths"] = append(want["veths"], "one")
			want["processes"] = append(want["processes"], "containerd-shim")
			for _, address := range nics["net1"] {
				want["lan"] = append(want["lan"], address.String())
			}
		}
		if b.version != "" {
			want["processes"] = append(want["processes"], "containerd-shim") // the agent's
		}
		found, err := b.there()
		if err != nil {
			return err
		}
		for _, list := range want {
			slices.Sort(list)
		}
		if diff := cmp.Diff(want, found); diff != "" {
			return fmt.Errorf("(-want +there):\n%s", diff)
		}
		return nil
	})
}

// there is what is on the node for pods, calls of the plugins included.
func (b *bed) there() (map[string][]string, error) {
	there := map[string][]string{"journals": {}, "cluster": {}, "lan": {}, "namespaces": {}, "veths": {}, "processes": {}}
	store := b.journals()
	containers, err := store.Containers()
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	for _, container := range containers {
		contents, peekErr := store.Peek(container)
		if peekErr != nil {
			return nil, peekErr
		}
		if !b.forgotten[container] {
			there["journals"] = append(there["journals"], contents.Header.UID)
		}
	}
	for kind, network := range map[string]string{"cluster": clusterNetwork, "lan": "lan"} {
		files, globErr := filepath.Glob(b.Path("/var/lib/cni/networks/" + network + "/*"))
		if globErr != nil {
			return nil, globErr
		}
		for _, file := range files {
			if address, notAddress := netip.ParseAddr(filepath.Base(file)); notAddress == nil {
				there[kind] = append(there[kind], address.String())
			}
		}
	}
	for _, name := range []string{"multiplexer", "macvlan", "bridge", "gate", "flannel", "portmap", "host-local", "containerd-shim"} {
		pids, findErr := b.Find(name)
		if findErr != nil {
			return nil, findErr
		}
		for range pids {
			there["processes"] = append(there["processes"], name)
		}
	}
	namespaces, err := os.ReadDir(b.Path("/run/netns"))
	if err != nil {
		return nil, err
	}
	for range namespaces {
		there["namespaces"] = append(there["namespaces"], "one")
	}
	err = b.Do(func() error {
		links, listErr := netlink.LinkList()
		for _, link := range links {
			if link.Type() == "veth" && link.Attrs().MasterIndex != 0 {
				there["veths"] = append(there["veths"], "one")
			}
		}
		return listErr
	})
	for _, list := range there {
		slices.Sort(list)
	}
	return there, err
}

// look is a snapshot of the node, without what its first pods make for good
// and what multiplexer has besides its pods' records. Processes are not looked
// at: other nodes' files have the same paths; see there.
func (b *bed) look() (string, error) {
	snapshot, err := nettest.Snapshot(b.SnapshotOptions())
	const state = "/var/lib/cni/multiplexer/"
	lines := slices.DeleteFunc(strings.Split(snapshot, "\n"), func(line string) bool {
		_, own, _ := strings.Cut(line, state)
		record := strings.HasPrefix(own, "journal/") || strings.HasPrefix(own, "running/") || strings.HasPrefix(own, "release/")
		_, container, _ := strings.Cut(own, "/")
		return own != "" && !record || b.forgotten[container] || strings.Contains(line, "/last_reserved_ip.") ||
			strings.HasSuffix(line, "/lock") || strings.HasPrefix(line, "file /run/multiplexer") || strings.HasSuffix(line, " absent") ||
			strings.HasPrefix(line, "process ")
	})
	return strings.Join(lines, "\n"), err
}

// still returns a snapshot at whose time nothing went on: kubelet lets the
// runtime undo a pod's networks a second time, seconds after the pod has gone.
func (b *bed) still() (string, error) {
	var now string
	err := b.until("nothing goes on", func() error {
		before := now
		var err error
		if now, err = b.look(); err == nil && (now != before || strings.Contains(now, "lock /var/lib/cni/multiplexer/journal/")) {
			err = fmt.Errorf("(-before +after):\n%s", cmp.Diff(strings.Split(before, "\n"), strings.Split(now, "\n")))
		}
		return err
	})
	return now, err
}

// same returns when a snapshot is what it was.
func (b *bed) same(before string) error {
	return b.until("the node is what it was", func() error {
		after, err := b.look()
		if err == nil && after != before {
			err = fmt.Errorf("(-before +after):\n%s", cmp.Diff(strings.Split(before, "\n"), strings.Split(after, "\n")))
		}
		return err
	})
}
