package cards

import (
	"fmt"
	"os"
	"path/filepath"
)

// showRDMA makes a function's RDMA device and its character devices. Numbers
// are not used again: a device that is bound anew has another name.
func (t *Tree) showRDMA(f *function) {
	n := t.rdmas
	t.rdmas++
	device := map[string]string{"device": f.path()}
	name := fmt.Sprintf("mlx5_%d", n)
	layer := "Ethernet"
	if f.linkType == infiniband {
		layer = "InfiniBand"
	}
	add := func(class, name string, files map[string]string) {
		path := filepath.Join(f.path(), class, name)
		t.put(path, node{files: files, links: device})
		t.class(class, path)
		f.rdmas = append(f.rdmas, path)
	}
	add("infiniband", name, map[string]string{"node_type": "1: CA", "node_guid": fmt.Sprintf("0002:c903:0000:%04x", n)})
	t.put(filepath.Join(f.path(), "infiniband", name, "ports/1"), node{files: map[string]string{"link_layer": layer, "state": "4: ACTIVE"}})
	add("infiniband_verbs", fmt.Sprintf("uverbs%d", n), map[string]string{"ibdev": name, "dev": fmt.Sprintf("231:%d", 192+n)})
	add("infiniband_mad", fmt.Sprintf("umad%d", n), map[string]string{"ibdev": name, "port": "1", "dev": fmt.Sprintf("231:%d", n)})
	add("infiniband_mad", fmt.Sprintf("issm%d", n), map[string]string{"ibdev": name, "port": "1", "dev": fmt.Sprintf("231:%d", 64+n)})
	const cm = "devices/virtual/misc/rdma_cm"
	if _, err := os.Lstat(t.in(cm)); err != nil {
		t.put(cm, node{files: map[string]string{"dev": "10:58"}})
		t.class("misc", cm)
	}
}

func (t *Tree) hideRDMA(f *function) {
	for _, path := range f.rdmas {
		t.remove(filepath.Join("class", filepath.Base(filepath.Dir(path)), filepath.Base(path)))
		t.remove(path)
	}
	f.rdmas = nil
}
