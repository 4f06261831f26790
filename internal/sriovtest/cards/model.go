package cards

import "fmt"

// Model is a sort of card.
type Model string

// The models, and the VFs that each has.
const (
	X710        Model = "Intel X710"         // 700 series, 8086:1572, i40e; VFs 8086:154c, iavf
	XL710       Model = "Intel XL710"        // 700 series, 8086:1583, i40e; VFs 8086:154c, iavf
	XXV710      Model = "Intel XXV710"       // 700 series, 8086:158b, i40e; VFs 8086:154c, iavf
	E810C       Model = "Intel E810-C"       // 800 series, 8086:1592, ice; VFs 8086:1889, iavf
	E810XXV     Model = "Intel E810-XXV"     // 800 series, 8086:159b, ice; VFs 8086:1889, iavf
	I82576      Model = "Intel 82576"        // 8086:10c9, igb; VFs 8086:10ca, igbvf
	ConnectX5   Model = "Mellanox ConnectX5" // 15b3:1017, mlx5_core, RDMA; VFs 15b3:1018
	ConnectX6Dx Model = "Mellanox CX-6 Dx"   // 15b3:101d, mlx5_core, RDMA; VFs 15b3:101e
	ConnectX6IB Model = "Mellanox CX-6 IB"   // 15b3:101b, InfiniBand, RDMA; VFs 15b3:101c
	I82574      Model = "Intel 82574L"       // 8086:10d3, e1000e, no SR-IOV
	Virtio      Model = "virtio network"     // 1af4:1041, virtio-pci: its network device is one level down, no SR-IOV
	NVMe        Model = "NVMe disk"          // 144d:a808, nvme: no network controller, but it can have VFs
)

// The drivers that hand a function to a process.
const (
	VFIO       = "vfio-pci"
	UIOGeneric = "uio_pci_generic"
	IGBUIO     = "igb_uio"
)

// facts are what the kernel knows of a model.
type facts struct {
	vendor, device, vfDevice string // PCI IDs
	class                    string
	driver, vfDriver         string
	total                    int // VFs of one port
	offset, stride           int // of a VF's address to the card's first
	rdma                     bool
	linkType                 int  // 0 = no network device
	ports                    bool // the driver names the port: p0
}

const (
	ethernet   = 1
	infiniband = 32

	classEthernet   = "0x020000"
	classInfiniband = "0x020700"
	classNVMe       = "0x010802"
	classBridge     = "0x060400"
)

func (m Model) facts() facts {
	intel := facts{vendor: "8086", class: classEthernet, linkType: ethernet, stride: 1, vfDriver: "iavf"}
	mlx := facts{vendor: "15b3", class: classEthernet, linkType: ethernet, driver: "mlx5_core", vfDriver: "mlx5_core", total: 8, offset: 2, stride: 1, rdma: true, ports: true}
	switch m {
	case X710, XL710, XXV710:
		intel.device = map[Model]string{X710: "1572", XL710: "1583", XXV710: "158b"}[m]
		intel.driver, intel.vfDevice, intel.total, intel.offset = "i40e", "154c", 64, 0x10
		return intel
	case E810C, E810XXV:
		intel.device = map[Model]string{E810C: "1592", E810XXV: "159b"}[m]
		intel.driver, intel.vfDevice, intel.total, intel.offset, intel.ports = "ice", "1889", 128, 8, true
		return intel
	case I82576:
		intel.driver, intel.vfDriver, intel.device, intel.vfDevice, intel.total = "igb", "igbvf", "10c9", "10ca", 7
		intel.offset, intel.stride = 0x80, 2
		return intel
	case I82574:
		intel.driver, intel.device = "e1000e", "10d3"
		return intel
	case ConnectX5:
		mlx.device, mlx.vfDevice = "1017", "1018"
		return mlx
	case ConnectX6Dx:
		mlx.device, mlx.vfDevice = "101d", "101e"
		return mlx
	case ConnectX6IB:
		mlx.device, mlx.vfDevice, mlx.class, mlx.linkType, mlx.ports = "101b", "101c", classInfiniband, infiniband, false
		return mlx
	case Virtio:
		return facts{vendor: "1af4", device: "1041", class: classEthernet, driver: "virtio-pci", linkType: ethernet}
	case NVMe:
		return facts{vendor: "144d", device: "a808", vfDevice: "a808", class: classNVMe, driver: "nvme", vfDriver: "nvme", total: 32, offset: 1, stride: 1}
	}
	panic(fmt.Sprintf("cards: there is no model %q", string(m)))
}
