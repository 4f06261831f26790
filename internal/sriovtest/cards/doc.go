// Package cards builds a sysfs on disk that is laid out as the kernel shows
// real network cards: Intel 700 and 800, ConnectX-5 and -6 (RDMA, switchdev,
// InfiniBand), igb, and what has no SR-IOV. Links are relative like the
// kernel's, so the tree works wherever it is mounted.
//
// A reader of sysfs gets the tree's directory for /sys:
//
//	tree := cards.Temp(t)        // or cards.New(dir), outside of tests
//	pf := tree.Add(cards.Card{Model: cards.XXV710, PCI: "0000:17:00.0", Name: "ens1f0", VFs: 4})
//	vf := tree.VFs(pf)[0]        // 0000:17:02.0, network device ens1f0v0
//	tree.Bind(vf, "vfio-pci")    // its network device is gone
//	functions, err := sriov.Sysfs(tree.Dir()).Functions()
//
// It behaves as the kernel does: a network device goes with its driver and
// comes back under the same name; RDMA devices are numbered anew each time; in
// a pod a device is hidden, and its net directory stays, empty; the number of
// VFs changes by way of 0 only; a function that is removed loses its files one
// by one.
//
// What cannot be written or is asked wrongly (an address that the tree does
// not have) is the test's fault, and panics. All methods may be called at the
// same time.
package cards
