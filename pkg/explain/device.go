package explain

import (
	"encoding/json"
	"fmt"

	"github.com/multiplexer-cni/multiplexer/pkg/journal"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// deviceOf says which device an attachment got, and by which rule; nil where
// it has none.
func deviceOf(r *journal.Record, choice network.DeviceChoice) *Device {
	d := &Device{ID: r.DeviceID, Resource: r.Resource, Rule: ruleOf(&r.Attachment, choice)}
	var vf sriov.Record
	if len(r.State) > 0 && json.Unmarshal(r.State, &vf) == nil && vf.PCI != "" {
		d.ID = vf.PCI
		d.What = fmt.Sprintf("VF %d of PF %s", vf.Index, vf.PF)
		if vf.Index < 0 {
			d.What = "the PF itself"
		}
		if vf.Picked {
			d.Rule = `a VF that was free, of the PF that "master" of the definition names`
		} else if d.Rule == "" {
			d.Rule = `"deviceID" of the definition`
		}
	}
	if d.ID == "" {
		return nil
	}
	return d
}

// plannedDevice is deviceOf before the network is attached.
func plannedDevice(a *network.Attachment, choice network.DeviceChoice) *Device {
	if a.DeviceID == "" {
		return nil
	}
	return &Device{ID: a.DeviceID, Resource: a.Resource, Rule: ruleOf(a, choice)}
}

// ruleOf says how plan.Pair came to the device; "" where that did not choose.
func ruleOf(a *network.Attachment, choice network.DeviceChoice) string {
	switch {
	case choice.ID != "":
		return "chosen by its \"id\" in the annotation"
	case choice.Container != "":
		return fmt.Sprintf("the first that no network before it took, of those of %s that kubelet gave container %q, which the annotation names", a.Resource, choice.Container)
	case a.Resource != "":
		return fmt.Sprintf("the first that no network before it took, of those of %s (resourceName of the definition) that kubelet gave the pod", a.Resource)
	}
	return ""
}
