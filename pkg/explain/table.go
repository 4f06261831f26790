package explain

import (
	"strconv"
	"strings"
	"time"
)

// Section is a part of the explanation as rows. The first is its header.
type Section struct {
	Title  string // "" = none
	Rows   [][]string
	Widths []int // of columns whose cells are to be broken; 0 = whole
}

// Sections show the explanation in the order in which it is read.
func (x *Explanation) Sections() []Section {
	out := []Section{x.head()}
	for i := range x.Containers {
		out = append(out, x.Containers[i].sections()...)
	}
	if x.Planned != nil {
		out = append(out, x.Planned.sections()...)
	}
	if len(x.Events) > 0 {
		rows := [][]string{{"WHEN", "PHASE", "REASON", "COUNT", "TEXT"}}
		for i := range x.Events {
			rows = append(rows, x.Events[i].row())
		}
		out = append(out, Section{Title: "Events", Rows: rows, Widths: []int{0, 0, 0, 0, 60}})
	}
	if todo := x.todo(); len(todo) > 1 {
		out = append(out, Section{Title: "What to do", Rows: todo, Widths: []int{58, 46}})
	}
	return out
}

func (x *Explanation) head() Section {
	s := Section{Rows: [][]string{{"Pod:", x.Pod}}, Widths: []int{0, 96}}
	add := func(name, value string) {
		if value != "" {
			s.Rows = append(s.Rows, []string{name, value})
		}
	}
	add("UID:", x.UID)
	add("Node:", x.Node)
	add("Phase:", x.Phase)
	for _, a := range x.Asked {
		add("Asks for:", a.Value+" ("+a.Annotation+", by "+a.From+")")
	}
	if len(x.Asked) == 0 && !x.Missing {
		add("Asks for:", "nothing, as far as is known here")
	}
	return s
}

func (c *Container) sections() []Section {
	state := c.State
	if !c.Since.IsZero() {
		state += ", since " + c.Since.UTC().Format(time.RFC3339)
	}
	out := []Section{{Rows: [][]string{{"Container:", c.ID}, {"State:", state}, {"Namespace:", c.Netns + live(c.Live || c.hidden)}}}}
	out = append(out, got(c.Networks), origin(c.Networks))
	out = append(out, devices(c.Networks)...)
	if len(c.NICs) > 0 {
		s := Section{Rows: [][]string{{"NIC", "TABLE", "CARRIES", "REPLIES OF"}}, Widths: []int{0, 0, 60, 30}}
		if !c.Kernel {
			s.Title = "As it was set at ADD (" + c.Unread + ")"
		}
		for _, n := range c.NICs {
			s.Rows = append(s.Rows, []string{n.Name, strconv.Itoa(n.Table), orDash(strings.Join(n.Carries, ", ")), orDash(strings.Join(n.Replies, ", "))})
		}
		out = append(out, s)
	}
	return append(out, warnings(c.Warnings)...)
}

func (p *Planned) sections() []Section {
	out := []Section{{Rows: [][]string{{"Would get, if its ADD ran now:"}}}}
	if len(p.Networks) > 0 {
		out = append(out, origin(p.Networks))
		out = append(out, devices(p.Networks)...)
	}
	if p.Error != "" {
		out = append(out, Section{Rows: [][]string{{"Fails in:", p.Phase}, {"Error:", p.Error}}, Widths: []int{0, 96}})
	}
	return append(out, warnings(p.Warnings)...)
}

func live(is bool) string {
	if is {
		return ""
	}
	return " (gone)"
}

func got(networks []Network) Section {
	s := Section{Rows: [][]string{{"INTERFACE", "NETWORK", "STEP", "ADDRESSES", "MAC", "DEVICE"}}, Widths: []int{0, 0, 0, 40}}
	for i := range networks {
		n := &networks[i]
		device := "-"
		if n.Device != nil {
			device = n.Device.ID
		}
		s.Rows = append(s.Rows, []string{n.Interface, n.Network, n.Step, orDash(strings.Join(n.Addresses, ", ")), orDash(n.MAC), device})
	}
	return s
}

func origin(networks []Network) Section {
	s := Section{Rows: [][]string{{"INTERFACE", "NETWORK", "PLUGINS", "BY", "FROM"}}, Widths: []int{0, 0, 24, 32, 44}}
	for i := range networks {
		n := &networks[i]
		s.Rows = append(s.Rows, []string{n.Interface, n.Network, strings.Join(n.Plugins, ", "), n.By, n.Source})
	}
	return s
}

func devices(networks []Network) []Section {
	s := Section{Rows: [][]string{{"INTERFACE", "DEVICE", "RESOURCE", "IS", "RULE"}}, Widths: []int{0, 0, 0, 0, 46}}
	for i := range networks {
		if d := networks[i].Device; d != nil {
			s.Rows = append(s.Rows, []string{networks[i].Interface, d.ID, orDash(d.Resource), orDash(d.What), orDash(d.Rule)})
		}
	}
	if len(s.Rows) == 1 {
		return nil
	}
	return []Section{s}
}

func warnings(list []string) []Section {
	if len(list) == 0 {
		return nil
	}
	s := Section{Widths: []int{0, 96}}
	for _, w := range list {
		s.Rows = append(s.Rows, []string{"Warning:", w})
	}
	return []Section{s}
}

func (e *Event) row() []string {
	return []string{e.Time.UTC().Format(time.RFC3339), e.Phase, e.Reason, strconv.Itoa(e.Count), strings.Join(strings.Fields(e.Text), " ")}
}

// todo gathers what is wrong, and what to do about it.
func (x *Explanation) todo() [][]string {
	rows := [][]string{{"WHAT", "REMEDY"}}
	add := func(what, remedy string) {
		if what != "" {
			rows = append(rows, []string{what, orDash(remedy)})
		}
	}
	for i := range x.Containers {
		for _, n := range x.Containers[i].Networks {
			if n.Problem != "" {
				add(n.Interface+" ("+n.Network+"): "+n.Problem, n.Remedy)
			}
		}
	}
	if x.Planned != nil && x.Planned.Error != "" {
		add("its ADD would fail: see the error above", x.Planned.Remedy)
	}
	if last := x.lastWarning(); last != nil && x.Planned != nil && x.Planned.Error == "" {
		what := "its ADD failed in phase " + last.Phase + " when the event " + last.Reason + " was written"
		if last.Phase != phaseAttach { // which is not tried here
			what += ", and would not now"
		}
		add(what, last.Remedy)
	}
	for _, n := range x.Notes {
		add(n.What, n.Remedy)
	}
	for _, why := range x.NotAsked {
		add(why, "")
	}
	return rows
}

func (x *Explanation) lastWarning() *Event {
	for i := len(x.Events) - 1; i >= 0; i-- {
		if x.Events[i].Warning && x.Events[i].Remedy != "" {
			return &x.Events[i]
		}
	}
	return nil
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
