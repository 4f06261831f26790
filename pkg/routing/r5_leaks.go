package routing

// closeLeaks is R5: what happens below IP stays on its NIC too. A NIC answers
// ARP for its own addresses only, a strict rp_filter becomes loose, and
// routers that advertise themselves on a secondary are not believed. What a
// network's own definition sets stays.
func (d *decision) closeLeaks() error {
	if !d.secondaries() {
		return nil
	}
	for i := range d.NICs {
		nic := &d.NICs[i]
		d.raise(nic, "arp_ignore", "1")
		d.raise(nic, "arp_announce", "2")
		if d.value("ipv4/conf/"+nic.Name+"/rp_filter") == "1" || d.value("ipv4/conf/all/rp_filter") == "1" {
			d.raise(nic, "rp_filter", "2")
		}
		if nic.Attachment > 0 {
			d.ignoreRouters(nic)
		}
	}
	return nil
}

func (d *decision) value(key string) string { return d.Input.Sysctls[key] }

// raise sets an IPv4 setting of a NIC to at least a value. The kernel goes by
// the higher one of the NIC's and of conf/all.
func (d *decision) raise(nic *NIC, name, want string) {
	key := "ipv4/conf/" + nic.Name + "/" + name
	if d.value(key) < want && d.value("ipv4/conf/all/"+name) < want {
		d.set(nic, key, want)
	}
}

// set plans a setting, unless the kernel lacks it or the definition names it.
func (d *decision) set(nic *NIC, key, want string) {
	have, known := d.Input.Sysctls[key]
	if !known || d.Networks[nic.Attachment].Sets(d.Networks[nic.Attachment].IfName, key) {
		return
	}
	d.Plan.Sysctls = append(d.Plan.Sysctls, Sysctl{Key: key, Want: want, Had: have})
}

// ignoreRouters keeps router advertisements from changing anything. They were
// off when the NIC came up: if they are on, its definition wants SLAAC, which
// is addresses, and a default route only for who carries it.
func (d *decision) ignoreRouters(nic *NIC) {
	conf := "ipv6/conf/" + nic.Name + "/"
	if d.believesRouters(nic) {
		d.warn("%s: its definition turns accept_ra of %s on: addresses that routers give it later have no rule of their own, and their replies follow the main table", d.Networks[nic.Attachment], nic.Name)
		if d.carrier(true).NIC != nic.Name {
			d.set(nic, conf+"accept_ra_defrtr", "0")
		}
		return
	}
	d.set(nic, conf+"accept_ra", "0")
	d.set(nic, conf+"autoconf", "0")
	gone := keysOf(d.Removed)
	learnt := func(r *Route) bool { return d.learnt(r) && r.Dev == nic.Name && !gone[r.key()] }
	d.Removed = append(d.Removed, d.After.main(learnt)...)
}

func (d *decision) believesRouters(nic *NIC) bool {
	wants := d.value("ipv6/conf/" + nic.Name + "/accept_ra")
	return wants != "" && wants != "0"
}

// sysctlKeys names the settings that R5 looks at.
func sysctlKeys(s *State) []string {
	var keys []string
	add := func(family, name string, settings ...string) {
		for _, setting := range settings {
			keys = append(keys, family+"/conf/"+name+"/"+setting)
		}
	}
	add("ipv4", "all", "arp_ignore", "arp_announce", "rp_filter")
	for _, link := range s.Links {
		add("ipv4", link.Name, "arp_ignore", "arp_announce", "rp_filter")
		add("ipv6", link.Name, "accept_ra", "autoconf", "accept_ra_defrtr")
	}
	return keys
}
