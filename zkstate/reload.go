package zkstate

import (
	"errors"
	"fmt"
	"path"
	"slices"

	"github.com/go-zookeeper/zk"
)

// Equal says whether two services are the same in all that matters here; the order of VIPs does not.
func (s Service) Equal(o Service) bool {
	return s.Name == o.Name && s.ClaimsPath == o.ClaimsPath && s.MaintenancePath == o.MaintenancePath &&
		s.FailbackPath == o.FailbackPath && s.StatusPath == o.StatusPath &&
		sameNames(s.VIPs, o.VIPs) && sameNames(s.Authoritative, o.Authoritative)
}

func sameNames(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// reconfigure takes services in place of those before. One that is equal keeps everything that is known and under way.
func (m *Machine) reconfigure(services []Service) {
	before := make(map[string]*service)
	for _, s := range m.services {
		before[s.Name] = s
		if !slices.ContainsFunc(services, s.Equal) {
			m.leave(s)
		}
	}
	m.cfg.Services, m.services = services, nil
	want := m.want
	m.want = Want{Claims: make(map[ClaimKey]Wish), Statuses: make(map[string]*Status), Remove: make(map[FlagKey][]byte)}
	for _, cfg := range services {
		if slices.ContainsFunc(m.services, func(s *service) bool { return s.Name == cfg.Name }) {
			panic(fmt.Sprintf("bug: service %q is configured twice", cfg.Name))
		}
		s := before[cfg.Name]
		if s == nil || !s.Equal(cfg) {
			s = m.enter(cfg, s)
		}
		m.services = append(m.services, s)
		m.keepWant(s, before[cfg.Name], want)
	}
	m.disown()
	for _, s := range m.services {
		s.left = slices.DeleteFunc(slices.Clone(m.leaving), func(h *held) bool {
			return path.Dir(h.path) != s.ClaimsPath || !slices.Contains(s.VIPs, path.Base(h.path))
		})
	}
}

// enter makes a service, which is to be read from the start. Of the one of its name before, if any, it takes over what is
// known of nodes that are its own still: who made them, and what was logged about them.
func (m *Machine) enter(cfg Service, old *service) *service {
	s := newService(cfg)
	for k, w := range s.watches() {
		*w = m.adopt(k)
	}
	if old != nil {
		for _, c := range s.own {
			if o := old.claim(c.path); o != nil {
				c.seen, c.made, c.conflict, c.wish = o.seen, o.made, o.conflict, o.wish
			}
		}
		if s.record.path == old.record.path {
			s.record = old.record // of a writing that is not waited for any more it knows nothing yet
		}
	}
	s.begin()
	return s
}

// keepWant takes over from the wish before what still is about the same: the next one is on its way, and until then nothing
// that is ours must be touched. A node of the operator's that is to go may be another one by now.
func (m *Machine) keepWant(s, old *service, want Want) {
	if old == nil {
		return
	}
	for _, c := range s.own {
		key := ClaimKey{Service: s.Name, VIP: c.vip}
		if wish, ok := want.Claims[key]; ok && old.claim(c.path) != nil {
			m.want.Claims[key] = wish
		}
	}
	if st, ok := want.Statuses[s.Name]; ok {
		m.want.Statuses[s.Name] = st
		m.setRecord(&s.record, *st)
	}
	if s == old {
		for f := Maintenance; f < numFlags; f++ {
			key := FlagKey{Service: s.Name, Flag: f}
			if data, ok := want.Remove[key]; ok {
				m.want.Remove[key] = data
			}
		}
	}
}

// claim is the one at path that this node may hold; nil if there is none.
func (s *service) claim(path string) *claim {
	if i := slices.IndexFunc(s.own, func(c *claim) bool { return c.path == path }); i >= 0 {
		return s.own[i]
	}
	return nil
}

// leave ends a service, or what it was before it changed. What may be ours of it is given up, unless it finds a service
// again.
func (m *Machine) leave(s *service) {
	m.calls.forget(s)
	if m.id == 0 {
		return // there never was a session: nothing is ours
	}
	for k, w := range s.watches() {
		if w.armed {
			m.orphans[k] = *w
		}
	}
	for _, c := range s.own {
		m.leaving = append(m.leaving, &held{path: c.path})
	}
	m.leaving = append(m.leaving, &held{path: s.record.path})
}

// disown takes from what is left behind whatever a service has as its own, again or still.
func (m *Machine) disown() {
	own := make(map[string]bool)
	for _, s := range m.services {
		own[s.record.path] = true
		for _, c := range s.own {
			own[c.path] = true
		}
	}
	m.leaving = slices.DeleteFunc(m.leaving, func(h *held) bool {
		h.over = own[h.path]
		return h.over
	})
}

// watchKey names a watch as a server knows it: of a session there is one for each.
type watchKey struct {
	path     string
	children bool
}

// watches are all of a service.
func (s *service) watches() map[watchKey]*watch {
	all := make(map[watchKey]*watch)
	for _, r := range s.reads {
		all[watchKey{r.path, r == &s.claims || r == &s.peers}] = &r.watch
	}
	for name, p := range s.records {
		all[watchKey{path: s.peers.path + "/" + name}] = &p.watch
	}
	return all
}

// adopt hands out a watch that a service left behind, as the library keeps a channel for each one that is set beside it; a
// dead one if there is none.
func (m *Machine) adopt(k watchKey) watch {
	w := m.orphans[k]
	delete(m.orphans, k)
	return w
}

// clearing reports whether claims that were ours are not given up yet. To read the others' before would show them as a
// stranger's.
func (s *service) clearing() bool {
	return slices.ContainsFunc(s.left, func(h *held) bool { return !h.over && !h.stays })
}

// leaves reports whether the claim on a VIP is ours no longer to have, and could not be deleted yet. It counts as absent: it
// says nothing of anybody else.
func (s *service) leaves(vip string) bool {
	return slices.ContainsFunc(s.left, func(h *held) bool { return !h.over && path.Base(h.path) == vip })
}

// pumpLeaving gives up what has no service any more. A call that nobody waits for may still make such a node, in this session
// even if it was sent in the one before; only a look after its end proves something.
func (m *Machine) pumpLeaving() {
	for _, h := range m.leaving {
		switch {
		case h.busy || m.calls.mayMake(h.path):
		case !h.due(m.now):
			m.later(h.at)
		default:
			m.clearAway(h)
		}
	}
}

// clearAway deletes a node if it is ours: of this session, or of an earlier one of this very process that has not expired yet.
// The Sync is there because a server that we have just come to may lag behind what the one before did for us.
func (m *Machine) clearAway(h *held) {
	h.busy = true
	m.callAbout(h, Call{Op: OpSync, Path: "/"}, func(Result) {
		m.callAbout(h, Call{Op: OpExists, Path: h.path}, func(res Result) {
			switch {
			case !res.Found || res.Stat.Owner == 0:
				m.cleared(h)
			case res.Stat.Owner == m.id:
				m.deleteLeft(h, res.Stat)
			default:
				m.callAbout(h, Call{Op: OpGet, Path: h.path}, func(res Result) {
					if decodeOwner(res.Data) != (owner{m.cfg.Node, m.cfg.Instance}) {
						m.cleared(h)
						return
					}
					m.deleteLeft(h, res.Stat)
				})
			}
		})
	})
}

// deleteLeft deletes what a look has found to be ours. The version sees to it that it is not written in between.
func (m *Machine) deleteLeft(h *held, st Stat) {
	m.callAbout(h, Call{Op: OpRemove, Path: h.path, Version: st.Version}, func(Result) {
		m.log.WithField("path", h.path).Info("ZooKeeper node that is no longer configured is deleted")
		m.allow(path.Dir(h.path), rightFor("delete"))
		m.cleared(h)
	})
}

// callAbout sends a call about a node that has no service any more. Then gets an answer that allows to go on.
func (m *Machine) callAbout(h *held, c Call, then func(Result)) {
	m.call(nil, c, func(_ *pending, res Result) {
		switch {
		case h.over: // it has a service again
		case res.Err == nil:
			then(res)
		case errors.Is(res.Err, zk.ErrNoNode), errors.Is(res.Err, zk.ErrNoAuth) && c.Op == OpGet: // what may not be read is not known to be ours
			m.cleared(h)
		case errors.Is(res.Err, zk.ErrBadVersion): // by a call of ours that was on its way
			h.busy = false
			h.pause(m.now, claimGap)
		case errors.Is(res.Err, zk.ErrNoAuth):
			h.busy, h.stays = false, true
			m.deny(path.Dir(h.path), rightFor("delete"))
			h.pause(m.now, m.cfg.Resync)
		default:
			h.busy, h.stays = false, h.stays || c.Op == OpRemove
			m.complain(h.fails, h.path, "give up", res.Err)
			h.failed(m.now)
		}
	})
}

// cleared ends the giving up of a node: there is none of ours.
func (m *Machine) cleared(h *held) {
	h.over = true
	m.leaving = slices.DeleteFunc(m.leaving, func(o *held) bool { return o == h })
	for _, s := range m.services {
		if slices.Contains(s.left, h) {
			s.claims.soil(false) // a reading may have left out whoever came after us
		}
	}
}
