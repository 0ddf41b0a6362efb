package daemon

import (
	"slices"
	"time"

	"exazk/exabgp"
)

// Reload is a new configuration, to be taken over as a difference: what did not change goes on as it is. What belongs to the
// connections themselves (node, [zookeeper], [log], exabgp.dialect and neighbor_tracking) stays as it was; see Restart.
type Reload struct{ Config *Config }

func (Reload) event() {}

// Restart names what a new configuration changes and a running process cannot.
func (c *Config) Restart(next *Config) []string {
	var keys []string
	for _, k := range []struct {
		key  string
		same bool
	}{
		{"node", c.Node == next.Node},
		{"log", c.Log == next.Log},
		{"zookeeper.hosts", slices.Equal(c.ZooKeeper.Hosts, next.ZooKeeper.Hosts)},
		{"zookeeper.session_timeout", c.ZooKeeper.SessionTimeout == next.ZooKeeper.SessionTimeout},
		{"exabgp.dialect", c.ExaBGP.Dialect == next.ExaBGP.Dialect},
		{"exabgp.neighbor_tracking", c.ExaBGP.TrackNeighbors == next.ExaBGP.TrackNeighbors},
	} {
		if !k.same {
			keys = append(keys, k.key)
		}
	}
	return keys
}

// key says which route it is, whatever its attributes.
func key(r exabgp.Route) exabgp.Route {
	return exabgp.Route{Prefix: r.Prefix, PathID: r.PathID, Neighbor: r.Neighbor}
}

// reload takes a new configuration over. Every VIP and service that is in both keeps all that is known about it, so that only
// what follows from the difference is decided anew.
func (c *Core) reload(now time.Time, cfg *Config) {
	c.holdTime, c.only = cfg.ExaBGP.HoldTime, cfg.ExaBGP.Neighbors
	c.neighbors = slices.DeleteFunc(c.neighbors, func(n neighbor) bool { return !c.counts(n.id.Peer) })
	before := c.services
	c.services = nil
	for i := range cfg.Services {
		s := newService(cfg, &cfg.Services[i])
		s.started = now
		if j := slices.IndexFunc(before, func(o *service) bool { return o.conf.Name == s.conf.Name }); j >= 0 {
			s.inherit(before[j])
		}
		c.services = append(c.services, s)
	}
	c.leave(before)
	c.afterNeighbors(now)
}

// inherit takes over what the service was before. What was read at a path that is another now is not known any more.
func (s *service) inherit(o *service) {
	conf, vips := s.conf, s.vips
	*s = *o
	s.conf, s.vips = conf, vips
	if conf.MaintenancePath != o.conf.MaintenancePath {
		s.maintenance, s.flag = PresenceUnknown, Flag{}
	}
	if conf.FailbackPath != o.conf.FailbackPath {
		s.failback = nil
	}
	if conf.StatusPath != o.conf.StatusPath {
		s.peers, s.peersRead = nil, false
	}
	if conf.ClaimsPath != o.conf.ClaimsPath {
		s.current = false
	}
	for _, v := range s.vips {
		if i := slices.IndexFunc(o.vips, func(w *vip) bool { return w.prefix == v.prefix }); i >= 0 {
			v.inherit(o.vips[i], conf.ClaimsPath == o.conf.ClaimsPath)
		}
	}
}

// inherit takes over what is known about the VIP. Its claim must be read anew where it is another's now, or was, or lies elsewhere.
func (v *vip) inherit(o *vip, sameClaim bool) {
	next := *v
	*v = *o
	v.authoritative, v.before, v.adverts = next.authoritative, next.before, next.adverts
	if next.authoritative != o.authoritative || !sameClaim {
		v.readOnce, v.view, v.earlier = false, ClaimUnread, ClaimUnread
		v.away, v.early, v.asked = false, false, false
	}
	if !slices.Equal(next.before, o.before) {
		v.unclaimed, v.leader, v.ahead = time.Time{}, "", BeforeNone
	}
	for i := range v.adverts {
		a := &v.adverts[i]
		for _, b := range o.adverts {
			if a.to == b.to && a.attrs.own.PathID == b.want.PathID {
				attrs := a.attrs
				*a = b
				a.attrs = attrs
			}
		}
	}
}

// leave has all withdrawn that the services of before may have announced and that is not of any service now.
func (c *Core) leave(before []*service) {
	gone := c.former
	for _, s := range before {
		for _, v := range s.vips {
			for _, a := range v.adverts {
				gone = append(gone, exabgp.Route{Prefix: v.prefix, PathID: a.attrs.own.PathID, Neighbor: a.to, Withdraw: true, Serial: a.want.Serial + 1})
			}
		}
	}
	c.former = nil
	for _, r := range gone {
		if c.advert(r) == nil && !slices.ContainsFunc(c.former, func(f exabgp.Route) bool { return key(f) == key(r) }) {
			c.former = append(c.former, r)
		}
	}
}
