package routing

import "slices"

// apply does with the model what Pod.apply and Pod.writeSysctls do with the
// kernel.
func (k *kernel) apply(p *Plan) {
	have := k.snapshot()
	wanted, there := keysOf(p.Routes), keysOf(have.Routes)
	for _, r := range have.Routes {
		if ourTable(r.Table) && !wanted[r.key()] {
			k.delRoute(&r)
		}
	}
	k.addMissing(p.Routes, there)
	for _, r := range have.Rules {
		if r.ours() && !slices.Contains(p.Rules, r) {
			k.delRule(r)
		}
	}
	for _, r := range p.Rules {
		k.addRule(r)
	}
	for _, r := range p.Removed {
		if there[r.key()] {
			k.delRoute(&r)
		}
	}
	k.addMissing(p.Added, there)
	for _, s := range p.Sysctls {
		k.sysctls[s.Key] = s.Want
	}
}

// addMissing adds routes, those as on-link whose gateway the kernel does not
// reach.
func (k *kernel) addMissing(routes []Route, there map[routeKey]bool) {
	for _, r := range byNeed(routes) {
		if !there[r.key()] && !k.addRoute(&r, appended) && r.Gateway.IsValid() {
			r.Onlink = true
			k.addRoute(&r, appended)
		}
	}
}

// undo does with the model what Undo does with the kernel.
func (k *kernel) undo(p *Plan) {
	k.apply(undoing(p, k.snapshot()))
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
