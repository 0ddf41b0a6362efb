package sim

import (
	"reflect"
	"slices"
	"time"

	"exazk/daemon"
	"exazk/exabgp"
	"exazk/zkstate"
)

// reloads watches what a reload must not touch.
type reloads struct {
	on      bool      // one is being taken over
	changed time.Time // when what is to be written to ExaBGP changed, the last time
	quiet   []bool    // by VIP: no command about it may be written before something else is decided
	claim   int64     // session that has this node's claim on its own VIP, which may not be touched before something else is wanted; 0 if none is
}

// moved notes that something else is to be written.
func (r *reloads) moved(now time.Time) {
	r.changed = now
	clear(r.quiet)
}

// wants notes what is wanted of the claim on the node's own VIP.
func (r *reloads) wants(w zkstate.Wish) {
	if w != zkstate.Hold {
		r.claim = 0
	}
}

// ownKey is that of the claim on a node's own VIP.
func (h *host) ownKey() zkstate.ClaimKey {
	return zkstate.ClaimKey{Service: serviceName, VIP: h.c.names[h.n]}
}

// reload is what daemon.Loop and main's reloader do. No route may move but those of what changed: what the passing of time alone
// changes is found out a moment before, at the same instant.
func (l *life) reload(ev daemon.Reload) {
	l.reloads.on = true
	defer func() { l.reloads.on = false }()
	l.step(nothing)
	if l.leaving {
		return
	}
	c, h := l.h.c, l.h
	was, before, settled := &l.conf.Services[0], l.last, l.undisturbed()
	check := l.conf.HealthConfig(was)
	l.conf = ev.Config
	is := &l.conf.Services[0]
	l.forgetAdded(was, is)
	l.step(ev)
	if !reflect.DeepEqual(check, l.conf.HealthConfig(is)) {
		l.newCheck()
		if l.started {
			l.examine()
		}
	}
	c.note(h, "has reloaded")
	l.compare(was, is, &before, settled)
	if _, owner, there := c.zk.Read(claimsPath + "/" + c.names[h.n]); there && owner == l.session && !c.knobs.Shared && before.Want.Claims[h.ownKey()] == zkstate.Hold && l.last.Want.Claims[h.ownKey()] == zkstate.Hold {
		l.reloads.claim = owner
	}
	for v := range c.names { // a check that begins anew takes its time again
		for _, o := range c.hosts {
			o.monitors.waits[v].begins(c, false)
		}
		h.monitors.sick[v].begins(c, false)
		h.monitors.kept[v].begins(c, false)
	}
	c.settleDown()
}

// undisturbed says that all that was decided has long been written, and that ExaBGP says of every command what became of it.
func (l *life) undisturbed() bool {
	const long = 5 * time.Second
	c, h, now := l.h.c, l.h, l.now()
	return c.knobs.Acks && c.knobs.Refusals == 0 && h.slow == 0 && now.Sub(h.thawed) > 15*time.Second && now.Sub(l.resumed) > long && h.frozen == 0 && h.able() &&
		now.Sub(l.began) > long && now.Sub(l.commanded) > long && now.Sub(l.reloads.changed) > long
}

// compare holds the decision after a reload against the one before.
func (l *life) compare(was, is *daemon.Service, before *daemon.Decision, settled bool) {
	c, after := l.h.c, &l.last
	slower := was.Overlap != is.Overlap // and the other times: what waits for them may end, or go on
	worse := was.Announce.Backup.MED != is.Announce.Backup.MED
	if before.Table.Epoch != after.Table.Epoch {
		c.violate("reload", "%s has reloaded, and writes all its routes anew", l.conf.Node)
	}
	for v := range c.names {
		if !configured(was, v) || !configured(is, v) {
			continue
		}
		from, _ := verdictOf(before, v, c.names[v])
		to, _ := verdictOf(after, v, c.names[v])
		if from != to && !slower {
			c.violate("reload", "%s has reloaded, and decides to %v for %s, after %v, which it did not change", l.conf.Node, to, c.names[v], from)
		}
		if r, s := routeOf(before, v), routeOf(after, v); r != s && from == to && !(worse && to.Role == daemon.Backup) {
			c.violate("reload", "%s has reloaded, and wants %+v, after %+v, which it did not change", l.conf.Node, s, r)
		} else if r == s {
			l.reloads.quiet[v] = settled
		}
		key := zkstate.ClaimKey{Service: serviceName, VIP: c.names[v]}
		if from == to && before.Want.Claims[key] != after.Want.Claims[key] {
			c.violate("reload", "%s has reloaded, and wants to %v its claim on %s, after %v", l.conf.Node, after.Want.Claims[key], c.names[v], before.Want.Claims[key])
		}
	}
}

func configured(s *daemon.Service, v int) bool {
	return slices.Contains(s.Authoritative, vipOf(v)) || slices.Contains(s.BackupFor, vipOf(v))
}

func verdictOf(d *daemon.Decision, v int, name string) (daemon.Verdict, bool) {
	i := place(len(d.Why), v, name, func(i int) string { return d.Why[i].VIP })
	if i < 0 {
		return daemon.Verdict{}, false
	}
	return d.Why[i].Verdict, true
}

// routeOf is what is to be written about a VIP; the zero Route if nothing is.
func routeOf(d *daemon.Decision, v int) exabgp.Route {
	i := slices.IndexFunc(d.Table.Routes, func(r exabgp.Route) bool { return r.Prefix == vipOf(v) })
	if i < 0 {
		return exabgp.Route{}
	}
	return d.Table.Routes[i]
}

// forgetAdded: of a VIP that is new nothing was read yet, and a reading of the service as it was does not count.
func (l *life) forgetAdded(was, is *daemon.Service) {
	if !slices.Equal(was.Authoritative, is.Authoritative) || !slices.Equal(was.BackupFor, is.BackupFor) {
		l.known.fresh = l.now()
	}
	for v := range l.known.seen {
		if !configured(was, v) && configured(is, v) {
			l.known.seen[v], l.known.read[v] = time.Time{}, false
		}
	}
}
