package routing

// writer lets apply write to the model.
type writer struct{ *kernel }

func (w writer) addRoute(r *Route) error {
	if !w.kernel.addRoute(r, appended) && r.Gateway.IsValid() {
		onlink := *r
		onlink.Onlink = true // as Pod.addRoute does
		w.kernel.addRoute(&onlink, appended)
	}
	return nil
}

func (w writer) delRoute(r *Route) error {
	w.kernel.delRoute(r)
	return nil
}

func (w writer) addRule(r Rule) error {
	w.kernel.addRule(r)
	return nil
}

func (w writer) delRule(r Rule) error {
	w.kernel.delRule(r)
	return nil
}

// apply makes a plan true on the model.
func (k *kernel) apply(p *Plan) {
	_ = apply(writer{k}, p, k.snapshot())
	for _, s := range p.Sysctls {
		k.sysctls[s.Key] = s.Want
	}
}

// undo takes a plan back on the model, as Undo does.
func (k *kernel) undo(p *Plan) {
	have := k.snapshot()
	_ = apply(writer{k}, undoing(p, have), have)
	for _, s := range p.Sysctls {
		if k.sysctls[s.Key] == s.Want && s.Had != "" {
			k.sysctls[s.Key] = s.Had
		}
	}
}

// compare is Pod.Compare on the model.
func (k *kernel) compare(p *Plan) error {
	return compare(p, &k.State, k.sysctls)
}
