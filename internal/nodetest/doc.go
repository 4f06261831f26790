// Package nodetest gives tests real nodes: containerd, runc and kubelet in
// namespaces of their own, and the control plane that they belong to:
// kubetest's etcd and kube-apiserver, kube-controller-manager and
// kube-scheduler.
//
//	c, err := nodetest.New()                  // the control plane
//	n, err := c.AddNode("node-a")             // a machine with containerd and kubelet
//	err = n.InstallPlugin(nil)                // multiplexer and its conf: the node gets Ready
//	err = n.StartAgent("--sweep", "1s")
//	err = c.WaitReady(n)
//	pod := nodetest.NewPod("shop", "web")     // shows its environment, then waits
//	err = c.CreatePod(pod)
//	running, err := c.WaitRunning(pod)
//
// A node sees the machine's files, and writes none of them: /etc, /opt and
// /var/lib are overlays, /run and /var/log are its own. [Node.Path] is where
// this process finds a file of the node. Each program is a [Process] that can
// be killed and started again; [Node.Crash] and [Node.Boot] are a machine that
// loses its power and comes back: /run is empty, the disk is kept, the boot ID
// is another one. [Node.CutAPI] takes the API server away from one node;
// kubetest's weather is everybody's. [Node.Find] and [Node.Signal] are for what
// others start on the node: the runtime's calls of a plugin, and processes in
// pods. Containers see the node's boot ID too.
//
// The nodes' network is a bridge: each node has eth0 with an address in
// 192.168.77.0/24 and fd00:77::/64, 10.244.N.0/24 and fd00:10:244:N::/64 for
// its pods, and a route to the pods of the others. eth1 and eth2 are wires
// between the nodes without addresses, for pods' networks; eth1's leads to the
// world [Outside]. The API server is at the same address on a node as here.
//
// The cluster network is a bridge, or flannel with [Node.InstallFlannel].
// After [Node.StartKubeProxy] the ClusterIPs of Services answer, that of the
// API server included. There is no registry: pods use [Image].
//
// All that a node is made of hangs on its first process, which the kernel
// kills together with this one: of a killed test only a directory in TMPDIR
// and empty cgroups stay, and the next cluster removes them.
//
// Cgroups of version 1 are what this was tried on; kubelet 1.37 runs there
// with a warning.
package nodetest
