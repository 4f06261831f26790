package proof

import "testing"

func TestVerdictCountsEveryNIC(t *testing.T) {
	for name, test := range map[string]struct {
		replies int
		carried map[string]Traffic
		wrong   string
	}{
		"right":             {Probes, map[string]Traffic{"eth0": {0, 0}, "net1": {Probes, Probes}}, ""},
		"ARP elsewhere":     {Probes, map[string]Traffic{"eth0": {1, 1}, "net1": {Probes + 1, Probes + 1}}, ""},
		"copies elsewhere":  {Probes, map[string]Traffic{"eth0": {0, Probes}, "net1": {Probes, Probes}}, "also by eth0"},
		"one way elsewhere": {Probes, map[string]Traffic{"eth0": {Probes, 0}, "net1": {0, Probes}}, "by eth0, not net1"},
		"other NIC":         {Probes, map[string]Traffic{"eth0": {Probes, Probes}, "net1": {0, 0}}, "by eth0, not net1"},
		"no NIC":            {Probes, map[string]Traffic{"eth0": {0, 0}}, "not counted on net1"},
		"reply lost":        {3, map[string]Traffic{"eth0": {0, 0}, "net1": {4, 3}}, "probe 4 got no reply"},
	} {
		t.Run(name, func(t *testing.T) {
			p := &Proof{Trip: Trip{NIC: "net1"}, Replies: test.replies, Carried: test.carried}
			if got := p.Wrong(); got != test.wrong {
				t.Errorf("Wrong() = %q, want %q", got, test.wrong)
			}
		})
	}
}
