package routing

import "strings"

// checkSettings is R5: of every NIC, what counts is set, unless the network's
// own definition says otherwise.
func (c *checker) checkSettings() {
	if !c.several() {
		return
	}
	for _, nic := range c.nics {
		four := "ipv4/conf/" + nic.Name + "/"
		counts := func(name string) string { return max(c.now.sysctls[four+name], c.now.sysctls["ipv4/conf/all/"+name]) }
		for name, least := range map[string]string{"arp_ignore": "1", "arp_announce": "2"} {
			if counts(name) < least && !c.defines(&nic, name) {
				c.problem("sysctl", "%s of %s is %s", name, nic.Name, counts(name))
			}
		}
		if counts("rp_filter") == "1" && !c.defines(&nic, "rp_filter") {
			c.problem("sysctl", "rp_filter of %s is strict", nic.Name)
		}
		six := "ipv6/conf/" + nic.Name + "/"
		if nic.Attachment == 0 || c.noIPv6 {
			continue
		}
		if wants := c.then.sysctls[six+"accept_ra"]; wants != c.now.sysctls[six+"accept_ra"] {
			c.problem("sysctl", "accept_ra of %s was %s", nic.Name, wants)
		} else if wants != "0" {
			c.checkRouters(&nic)
		}
	}
	for _, s := range c.plan.Sysctls {
		if have, known := c.in.Sysctls[s.Key]; !known || have != s.Had {
			c.problem("sysctl", "%s had %q, is %q", s, s.Had, have)
		}
		for _, nic := range c.nics {
			if name, ok := strings.CutPrefix(s.Key, "ipv4/conf/"+nic.Name+"/"); ok && c.defines(&nic, name) {
				c.problem("sysctl", "%s is what its definition sets", s)
			}
		}
	}
}

// checkRouters: a NIC that believes routers takes a default route from them
// only if it carries the default route anyway.
func (c *checker) checkRouters(nic *NIC) {
	key := "ipv6/conf/" + nic.Name + "/accept_ra_defrtr"
	if _, planned := find(c.plan.Sysctls, key); planned == (c.plan.carrier(true).NIC == nic.Name) {
		c.problem("sysctl", "%s: planned %v, default by %q", key, planned, c.plan.carrier(true).NIC)
	}
}

func find(settings []Sysctl, key string) (Sysctl, bool) {
	for _, s := range settings {
		if s.Key == key {
			return s, true
		}
	}
	return Sysctl{}, false
}

// defines reports whether a network's plugins set something of its interface.
func (c *checker) defines(nic *NIC, name string) bool {
	p := c.parts[nic.Attachment]
	return nic.Name == p.ifname && strings.Contains(strings.Join(p.plugins, " "), "IFNAME."+name)
}
