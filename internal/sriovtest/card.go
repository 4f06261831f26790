package sriovtest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Card is a model whose PF has no VFs yet, with the files by which they are
// made. It refuses as a kernel does, and takes its time as a driver does.
type Card struct {
	*Model
	// Late: a new VF's network device comes after Driver.Probe.
	Late bool
	// Short: the last VF that is made lacks the link to its PF, until Mend.
	Short bool

	mu        sync.Mutex
	hang      chan struct{}
	total     int
	autoprobe bool
	loaded    []string
	ties      map[string]string // driver_override by PCI address
	written   []int
}

// NewCard makes a card without VFs, its PF down.
func NewCard(t testing.TB, d Driver) *Card {
	t.Helper()
	c := &Card{Model: NewModel(t, d), total: d.VFs, autoprobe: true, ties: map[string]string{}}
	c.RemoveVFs()
	pf := c.pf.link
	pf.Up = false
	c.show()
	return c
}

// PFPCI is the PF's address.
func (c *Card) PFPCI() string { return c.pf.pci }

// Hang makes each write of the number of VFs wait until release is called.
func (c *Card) Hang() (release func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hang = make(chan struct{})
	return sync.OnceFunc(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		close(c.hang)
		c.hang = nil
	})
}

// Written are the numbers of VFs that were written, in order.
func (c *Card) Written() []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.written)
}

// SetVFs writes sriov_numvfs.
func (c *Card) SetVFs(pf string, n int) error {
	c.mu.Lock()
	hang := c.hang
	c.mu.Unlock()
	if hang != nil {
		<-hang
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	have := len(c.vfs)
	switch {
	case pf != c.pf.pci:
		return unix.ENOENT
	case n < 0 || n > c.total:
		return unix.ERANGE
	case n != 0 && have != 0 && n != have:
		return unix.EBUSY
	}
	c.written = append(c.written, n)
	if n == have {
		return nil
	}
	if n == 0 {
		c.RemoveVFs()
		c.ties = map[string]string{}
	} else {
		c.make(n)
	}
	c.show()
	return nil
}

// make makes n VFs, with or without a driver.
func (c *Card) make(n int) {
	c.Model.mu.Lock()
	c.VFs = n
	c.Model.mu.Unlock()
	c.MakeVFs()
	c.Model.mu.Lock()
	c.VFs = c.total
	vfs := slices.Clone(c.vfs)
	c.Model.mu.Unlock()
	for i, f := range vfs {
		switch {
		case c.Short && i == n-1:
			c.must(os.Remove(c.physfn(f)))
		case !c.autoprobe:
			c.must(c.Model.Bind(f.pci, ""))
		case c.Late:
			c.must(c.Model.Bind(f.pci, c.VF))
		}
	}
}

func (c *Card) physfn(f *function) string { return filepath.Join(c.sys.dir(f.pci), "physfn") }

// Mend makes the link that Short left out.
func (c *Card) Mend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sys.link("../"+c.pf.pci, c.physfn(c.vfs[len(c.vfs)-1]))
}

// Probed brings the VFs' network devices now, however long Driver.Probe is.
func (c *Card) Probed() {
	c.Model.mu.Lock()
	defer c.Model.mu.Unlock()
	for _, f := range c.vfs {
		c.probed(f)
	}
}

func (c *Card) must(err error) {
	if err != nil {
		panic(fmt.Sprintf("the model's card: %v", err))
	}
}

// SetAutoprobe writes sriov_drivers_autoprobe.
func (c *Card) SetAutoprobe(_ string, on bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.autoprobe = on
	c.show()
	return nil
}

// Bind ties a VF to a driver and binds that, "" = its own.
func (c *Card) Bind(pci, driver string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if driver != "" && driver != c.VF && !slices.Contains(c.loaded, driver) {
		return unix.ENOENT
	}
	bound := driver
	if driver == "" {
		if bound = c.VF; !c.autoprobe {
			return unix.ENODEV
		}
	}
	if err := c.Model.Bind(pci, bound); err != nil {
		return err
	}
	c.ties[pci] = driver
	c.show()
	return nil
}

// Load loads a driver that VFs can be bound to besides their own.
func (c *Card) Load(driver string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.loaded = append(c.loaded, driver)
	c.sys.mkdir(c.sys.in("bus/pci/drivers/" + driver))
}

// Foreign makes VFs as another program does.
func (c *Card) Foreign(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.RemoveVFs()
	c.make(n)
	c.show()
}

// Reboot takes all away that a reboot does.
func (c *Card) Reboot() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.RemoveVFs()
	c.autoprobe, c.ties, c.written = true, map[string]string{}, nil
	c.Model.mu.Lock()
	c.pf.link.Up, c.pf.link.MTU = false, defaultMTU
	c.Model.mu.Unlock()
	c.show()
}

// show writes the files.
func (c *Card) show() {
	dir := c.sys.dir(c.pf.pci)
	c.sys.file(dir, "sriov_numvfs", strconv.Itoa(len(c.vfs)))
	c.sys.file(dir, "sriov_drivers_autoprobe", map[bool]string{true: "1", false: "0"}[c.autoprobe])
	for _, f := range c.vfs {
		tie := c.ties[f.pci]
		if tie == "" {
			tie = "(null)"
		}
		c.sys.file(c.sys.dir(f.pci), "driver_override", tie)
	}
}

// Slowly is a driver whose VFs' network devices come late.
func Slowly(probe time.Duration) Driver {
	d := Capable()
	d.Probe = probe
	return d
}

// DropAddresses takes the node's addresses off a device.
func (c *Card) DropAddresses(index int) {
	c.Model.mu.Lock()
	defer c.Model.mu.Unlock()
	if l, err := c.spaces[""].byIndex(index); err == nil {
		l.addresses = nil
	}
}
