package agent

import (
	"testing"

	"github.com/multiplexer-cni/multiplexer/pkg/journal"
	"github.com/multiplexer-cni/multiplexer/pkg/network"
)

// A network whose plan line is damaged has no name to be shown under: the pod
// keeps the network-status that it has, and the others are counted.
func TestDamagedPlanLine(t *testing.T) {
	c := &journal.Contents{
		Header: journal.Header{Container: "c", Pod: "shop/web"}, Complete: true, Damaged: 1,
		Records: []journal.Record{
			{Step: journal.Added, Attachment: network.Attachment{Reference: "cluster", IfName: "eth0", Cluster: true}},
			{Step: journal.Added, Hidden: true},
		},
	}
	a := &Agent{Options: Options{Publish: PublishAll}, metrics: newMetrics("v1")}
	if a.wanted(c) {
		t.Error("the pod's network-status is written anew, without the network that is hidden")
	}
	a.metrics.count(map[string]*journal.Contents{"c": c}, 0)
	got := scrape(t, a.metrics.registry)
	if _, unnamed := got["multiplexer_attachments{network=}"]; unnamed || got["multiplexer_attachments{network=cluster}"] != 1 {
		t.Errorf("%v", got)
	}
}
