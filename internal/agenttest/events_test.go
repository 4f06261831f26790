package agenttest

import "testing"

// broken are the steps of a recorder that fails.
func broken() obj {
	return obj{"ADD": []any{obj{"error": obj{"code": 999, "msg": "the fabric is dark"}}}}
}

// A pod's owner sees why it does not get its networks, once, with a count;
// of a plain pod kubelet tells all that there is to tell.
func TestEventsOfFailures(t *testing.T) {
	n := ready(t)
	n.Define("shop", "evf-a", n.Stepped("evf-a", "10.51.0.0/24", broken()), "")
	p := n.Pod("evf", "evf-a")
	n.Refused(n.Run("ADD", p), 999, "the fabric is dark")
	n.eventually(p, "Warning AttachmentFailed 1 ", "shop/evf-a", "the fabric is dark")
	n.Run("ADD", p)
	n.Run("ADD", p)
	n.eventually(p, "Warning AttachmentFailed 3 ", "the fabric is dark")
	n.same(len(n.Events(p)), 1)

	n.cluster(n.Stepped("cluster", "10.0.0.0/16", broken()))
	plain := n.Pod("evf-plain", "")
	n.Refused(n.Run("ADD", plain), 999, "the fabric is dark")
	n.Run("ADD", p)
	n.eventually(p, "Warning AttachmentFailed ", "cluster network") // events go one after the other
	n.same(n.Events(plain), []string(nil))
}

// What a pod got is told with --events all only; nothing is with none.
func TestWhichEvents(t *testing.T) {
	for which, want := range map[string][]string{
		"all":      {"Normal AddedInterface 1 Add eth0 [10.0.0.2] from cluster", "Normal AddedInterface 1 Add net1 [10.51.0.2] from shop/evw-a-all", "Warning AttachmentFailed 1 "},
		"failures": {"Warning AttachmentFailed 1 "},
		"none":     nil,
	} {
		t.Run(which, func(t *testing.T) {
			n := ready(t, "--events", which)
			n.Define("shop", "evw-a-"+which, n.List("evw-a", "10.51.0.0/24"), "")
			n.Define("shop", "evw-b-"+which, n.Stepped("evw-b", "10.52.0.0/24", broken()), "")
			p := n.Pod("evw-"+which, "evw-a-"+which)
			n.OK("ADD", p)
			n.OK("DEL", p)
			p.Annotations["k8s.v1.cni.cncf.io/networks"] = "evw-b-" + which
			n.Refused(n.Run("ADD", p), 999, "the fabric is dark")
			for _, event := range want {
				n.eventually(p, event)
			}
			n.OK("ADD", n.Pod("evw-later-"+which, "evw-a-"+which)) // gives an event time that should not come
			n.StopAgent()
			n.same(len(n.Events(p)), len(want))
		})
	}
}
