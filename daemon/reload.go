package daemon

import (
	"net/netip"
	"slices"
	"time"

	"exazk/exabgp"
)

// Reload is a new configuration, to be taken over as a difference: what did not change goes on as it is. What belongs to the
// connections themselves stays as it was: see Config.Restart and Config.Adopt.
type Reload struct{ Config *Config }

func (Reload) event() {}

// Restart names what a new configuration changes and a running process cannot. The node must be the same.
func (c *Config) Restart(next *Config) []string {
	var keys []string
	for _, k := range []struct {
		key  string
		same bool
	}{
		{"log", c.Log == next.Log},
		{"zookeeper.hosts", slices.Equal(c.ZooKeeper.Hosts, next.ZooKeeper.Hosts)},
		{"zookeeper.session_timeout", c.ZooKeeper.SessionTimeout == next.ZooKeeper.SessionTimeout},
		{"exabgp.dialect", c.ExaBGP.Dialect == next.ExaBGP.Dialect},
		{"exabgp.neighbor_tracking", c.ExaBGP.TrackNeighbors == next.ExaBGP.TrackNeighbors},
		{"hook", slices.EqualFunc(c.Hooks, next.Hooks, Hook.equal)},
		{"exabgp.drift_check", c.ExaBGP.DriftCheck == next.ExaBGP.DriftCheck},
	} {
		if !k.same {
			keys = append(keys, k.key)
		}
	}
	return keys
}

// Adopt is a new configuration with what only a restart takes over left as it is in this one.
func (c *Config) Adopt(next *Config) *Config {
	adopted := *next
	adopted.Log, adopted.ZooKeeper, adopted.Hooks = c.Log, c.ZooKeeper, c.Hooks
	adopted.ExaBGP.Dialect, adopted.ExaBGP.TrackNeighbors, adopted.ExaBGP.DriftCheck = c.ExaBGP.Dialect, c.ExaBGP.TrackNeighbors, c.ExaBGP.DriftCheck
	return &adopted
}

// key says which route it is, whatever its attributes.
func key(r exabgp.Route) exabgp.Route {
	return exabgp.Route{Prefix: r.Prefix, PathID: r.PathID, Neighbor: r.Neighbor}
}

func (a *advert) key(vip netip.Prefix) exabgp.Route {
	return exabgp.Route{Prefix: vip, PathID: a.attrs.own.PathID, Neighbor: a.to}
}

// routesOf are the keys of all routes of services.
func routesOf(services []*service) []exabgp.Route {
	var keys []exabgp.Route
	for _, s := range services {
		for _, v := range s.vips {
			for i := range v.adverts {
				keys = append(keys, v.adverts[i].key(v.prefix))
			}
		}
	}
	return keys
}

// reload takes a new configuration over. Every VIP and service that is in both keeps all that is known about it, so that only
// what follows from the difference is decided anew.
func (c *Core) reload(now time.Time, cfg *Config) {
	c.holdTime = cfg.ExaBGP.HoldTime
	c.recount(cfg.ExaBGP.Neighbors)
	before := c.services
	c.services = nil
	for i := range cfg.Services {
		s := newService(cfg, &cfg.Services[i])
		s.started = now
		if j := slices.IndexFunc(before, func(o *service) bool { return o.conf.Name == s.conf.Name }); j >= 0 {
			s.inherit(now, before[j])
		}
		c.services = append(c.services, s)
	}
	c.serials += serialStep
	for _, s := range c.services {
		for _, v := range s.vips {
			v.renew(c.serials)
		}
	}
	c.leave(before)
	c.afterNeighbors(now)
	if slices.ContainsFunc(c.services, c.waitsForASession) {
		c.epoch++ // the audience came with the file: no session will come up to begin it
	}
}

// waitsForASession says whether a service that is heard by enough neighbors has VIPs whose acknowledgements count only from the
// next session on.
func (c *Core) waitsForASession(s *service) bool {
	return c.established(s) >= s.conf.MinNeighbors && slices.ContainsFunc(s.vips, func(v *vip) bool { return v.needEpoch > c.epoch })
}

// serialStep is more than a route is changed in one configuration.
const serialStep = 1 << 32

// renew has the routes that are new begin with another serial: ExaBGP may have acknowledged the same ones of a configuration
// before this one, and an answer is told once.
func (v *vip) renew(serial uint64) {
	for i := range v.adverts {
		if a := &v.adverts[i]; a.want == (exabgp.Route{}) {
			a.want.Serial = serial
		}
	}
}

// inherit takes over what the service was before. What was read at a path that is another now is not known any more.
func (s *service) inherit(now time.Time, o *service) {
	conf, vips := s.conf, s.vips
	*s = *o
	s.conf, s.vips = conf, vips
	if !conf.store().Equal(o.conf.store()) {
		s.fresh = now
	}
	if conf.MaintenancePath != o.conf.MaintenancePath {
		s.maintenance, s.flag, s.entered = PresenceUnknown, Flag{}, ""
	}
	if conf.FailbackPath != o.conf.FailbackPath {
		s.failback = nil
	}
	if conf.StatusPath != o.conf.StatusPath {
		s.peers, s.peersRead, s.junk = nil, false, nil
	}
	if conf.ClaimsPath != o.conf.ClaimsPath {
		s.claims, s.current = nil, false
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
	v.authoritative, v.before, v.rank, v.adverts = next.authoritative, next.before, next.rank, next.adverts
	if next.authoritative != o.authoritative || !sameClaim {
		v.readOnce, v.view, v.earlier = false, ClaimUnread, ClaimUnread
		v.away, v.early, v.asked = false, false, false
		v.wished, v.holding = false, false
	}
	if !slices.Equal(next.before, o.before) {
		v.unclaimed, v.leader, v.ahead = time.Time{}, "", BeforeNone
	}
	for i := range v.adverts {
		a := &v.adverts[i]
		for _, b := range o.adverts {
			if a.key(v.prefix) == b.key(v.prefix) {
				attrs := a.attrs
				*a = b
				a.attrs = attrs
			}
		}
	}
}

// leave has all withdrawn that the services of before may have announced and that is not of any service now.
func (c *Core) leave(before []*service) {
	gone := routesOf(before)
	for _, f := range c.former { // what is configured again is not among them, and what is for others now is looked at anew
		gone = append(gone, key(f.want))
	}
	for _, r := range c.wide {
		gone = append(gone, key(r))
	}
	c.former, c.wide = nil, nil
	c.remember(gone)
}

// remember has routes withdrawn that are not of any service. It goes by what tells a route from others; the rest is not looked at.
func (c *Core) remember(gone []exabgp.Route) {
	for _, r := range gone {
		r = key(r)
		known := slices.ContainsFunc(c.former, func(f advert) bool { return key(f.want) == r }) || slices.ContainsFunc(c.wide, func(w exabgp.Route) bool { return key(w) == r })
		if known || c.advert(r) != nil {
			continue
		}
		r.Withdraw, r.Left, r.Serial = true, true, c.serials // greater than any that the route had as one of a service
		switch {
		case !c.shadowed(r):
			c.former = append(c.former, advert{to: r.Neighbor, want: r})
		case !r.Neighbor.IsValid(): // now for chosen neighbors only
			c.wide = append(c.wide, r)
		} // else it goes to all now, and what is said to all is said to that neighbor too
	}
	c.keys = c.mayAnnounce()
}

// shadowed says whether a configured route is the same one but for whom it is for: one is for every neighbor, the other is not.
func (c *Core) shadowed(r exabgp.Route) bool {
	return slices.ContainsFunc(c.services, func(s *service) bool {
		return slices.ContainsFunc(s.vips, func(v *vip) bool {
			return v.prefix == r.Prefix && slices.ContainsFunc(v.adverts, func(a advert) bool {
				return a.attrs.own.PathID == r.PathID && a.to.IsValid() != r.Neighbor.IsValid()
			})
		})
	})
}

// mayAnnounce is every route that ExaBGP may hold of this process, now or later, sorted by what tells them apart: those of the
// configuration, and those of before whose withdraw was not acknowledged yet.
func (c *Core) mayAnnounce() []exabgp.Route {
	keys := routesOf(c.services)
	for i := range c.former {
		if !c.former[i].acked {
			keys = append(keys, key(c.former[i].want))
		}
	}
	for _, r := range c.wide {
		keys = append(keys, key(r))
	}
	slices.SortFunc(keys, compareRoutes)
	return keys
}

func (c *Core) acceptFormer(ev exabgp.RouteAccepted) {
	for i := range c.former {
		if a := &c.former[i]; ev.Route == a.want && !a.acked {
			a.accept(ev)
			c.keys = c.mayAnnounce()
		}
	}
	if c.everywhere() {
		c.former = slices.DeleteFunc(c.former, func(a advert) bool { return a.acked && a.ack.Epoch == c.epoch })
	}
}

// everywhere says that what ExaBGP carries out now reaches every neighbor that there is, so that nothing of it is left for a session
// to come. A withdraw is then done for good: another process of this ExaBGP may announce the same VIP from now on. Of a neighbor that
// was never up in this life nothing is known, unless the configuration names it.
func (c *Core) everywhere() bool {
	down := func(n neighbor) bool { return !n.apart && !n.usable() }
	unseen := func(peer netip.Addr) bool {
		return !slices.ContainsFunc(c.neighbors, func(n neighbor) bool { return n.id.Peer == peer })
	}
	return c.tracking && c.listed && c.up() > 0 && !slices.ContainsFunc(c.neighbors, down) && !slices.ContainsFunc(c.only, unseen)
}
