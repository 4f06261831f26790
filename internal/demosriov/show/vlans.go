package show

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/multiplexer-cni/multiplexer/internal/demo/text"
)

// question is one that a VLAN may keep from its answer.
type question struct {
	asker, asked *pod
	vlans        string
	answered     bool // must it be?
}

// vlans proves that a VLAN of the card separates pods on one subnet, and that
// it is the VLAN and not a dead link: with the other's VLAN there is an answer.
func (s *show) vlans(ctx context.Context) error {
	s.heading("The VLAN keeps %s apart, on the same card and subnet", s.visitor)
	vfs, err := s.readVFs()
	if err != nil {
		return err
	}
	vf, err := s.visitor.vf("net1", vfs)
	if err != nil {
		return err
	}
	tag := func(vlan int) error {
		_, tagErr := s.node.Output("ip", "link", "set", vf.PF, "vf", vf.Index(), "vlan", strconv.Itoa(vlan))
		return tagErr
	}
	rows := [][]string{{"WHO ASKS WHOM", "VLANS", "ANSWER", "VERDICT"}}
	there, back := question{s.front, s.visitor, "100 > 200", false}, question{s.visitor, s.front, "200 > 100", false}
	if err = s.answers(ctx, &rows, there, back); err != nil {
		return err
	}
	if err = tag(100); err != nil {
		return err
	}
	if err = s.answers(ctx, &rows, question{s.visitor, s.front, "100 > 100", true}, question{s.front, s.visitor, "100 > 100", true}); err != nil {
		return err
	}
	noticed := s.runtime.check(ctx, s.visitor)
	if err = tag(200); err != nil {
		return err
	}
	if err = s.answers(ctx, &rows, there, back); err != nil {
		return err
	}
	if err = text.Table(s.out, rows...); err != nil {
		return err
	}
	if noticed == nil {
		return errors.New("CHECK did not notice the other VLAN; this is a bug: please report it with this output")
	}
	s.say("\n  In between: ip link set %s vf %s vlan 100. So the link was not just dead, and CHECK notices:", vf.PF, vf.Index())
	s.say("    %s", noticed.Error()[strings.LastIndex(noticed.Error(), ": ")+len(": "):])
	if err = s.runtime.check(ctx, s.visitor); err != nil {
		return err
	}
	s.say("  With its own VLAN back, CHECK succeeds.")
	return nil
}

// answers asks, and adds a row for each question.
func (s *show) answers(ctx context.Context, rows *[][]string, questions ...question) error {
	for _, q := range questions {
		to, err := addressOnData(q.asked, s)
		if err != nil {
			return err
		}
		if q.answered {
			err = await(ctx, q.asker.NS, to)
		} else {
			err = silence(ctx, q, to)
		}
		if err != nil {
			return fmt.Errorf("%s asks %s: %w", q.asker, q.asked, err)
		}
		answer := map[bool]string{true: "yes", false: "none"}[q.answered]
		*rows = append(*rows, []string{q.asker.name + " asks " + q.asked.name + " " + to, q.vlans, answer, "ok"})
	}
	return nil
}

// silence asks twice and wants no answer.
func silence(ctx context.Context, q question, to string) error {
	for range 2 {
		if ask(ctx, q.asker.NS, to) == nil {
			return fmt.Errorf("%s answers in spite of its VLAN", to)
		}
	}
	return ctx.Err()
}

// addressOnData is the pod's address on the PF with the VLANs.
func addressOnData(p *pod, s *show) (string, error) {
	nic := "net2"
	if p == s.visitor {
		nic = "net1"
	}
	address, err := p.address(nic)
	if err != nil {
		return "", err
	}
	return address.IP.String(), nil
}
