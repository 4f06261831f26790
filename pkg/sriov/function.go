package sriov

// Function is a network controller on the PCI bus, with what the device
// plugin's selectors ask of it: a VF, a PF, or a NIC without SR-IOV, whose PF
// is itself (Index -1, PF.Total 0).
type Function struct {
	Device
	Vendor, Product string   // PCI IDs as four hex digits: "8086", "154c"
	ACPIIndex       string   // acpi_index; "" = the firmware gives none
	LinkType        string   // "ether", "infiniband": its own network device's, else its PF's; "" = not known
	RDMA            []string // its RDMA devices on the node, sorted
	IOMMUGroup      string   // a number; "" = none
	NoIOMMU         bool     // the group is vfio's own, without an IOMMU
	Root            string   // the host bridge that it hangs below: "pci0000:00"
}
