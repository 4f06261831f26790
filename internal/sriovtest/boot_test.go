package sriovtest

import (
	"testing"

	"github.com/multiplexer-cni/multiplexer/pkg/sriov"
)

// What a VF had before a pod of another boot came ended with that boot: nobody
// gets it back.
func TestMACOfAnotherBoot(t *testing.T) {
	onModel(t, Capable(), func(b *Bed, _ *Model) {
		b.tell(3, sriov.KnobMAC, func(a *sriov.Admin) { a.MAC = "02:00:00:00:0a:01" })
		b.pod(b.of(3, withMAC("02:00:00:00:0a:02"))).add()
		b.boots("another boot")
		b.pod(b.of(2, withMAC("02:00:00:00:0a:01"))).add()
	})
}
