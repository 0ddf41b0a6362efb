package zkstate

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-zookeeper/zk"
	"github.com/sirupsen/logrus"
)

// claim is one claim that this node may hold.
type claim struct {
	vip, path string
	seen      Claim // as of the service's view
	made      int64 // czxid of our newest one in this life, or a lower bound of it that is above all before; 0: none
	busy      bool  // an attempt is under way
	need      uint64
	retry     retry
	conflict  string // the Foreign or Squatted one that was logged
	wish      Wish   // of the last attempt's time: another one is tried at once
}

// claimGap is the least time between two attempts on one claim, successful ones included: somebody may undo them.
const claimGap = 100 * time.Millisecond

// owner is what a claim says about who made it. The Python tool's claims are empty.
type owner struct {
	Node     string `json:"node"`
	Instance string `json:"instance"`
}

// ClaimOwner is who made a claim, by its data: the node, and the life of its process. Both are empty where it does not say.
func ClaimOwner(data []byte) (node, instance string) {
	o := decodeOwner(data)
	return o.Node, o.Instance
}

// claimData is a claim's data as we write them.
type claimData struct {
	owner
	Since time.Time `json:"since"`
}

// decodeOwner reads a claim's data; what does not decode names nobody.
func decodeOwner(data []byte) owner {
	var o owner
	if len(data) > maxRecord || json.Unmarshal(data, &o) != nil {
		return owner{}
	}
	o.Node, o.Instance = validName(o.Node), validName(o.Instance)
	return o
}

// readClaims reads a service's directory, and the data of those claims that this node may hold.
func (m *Machine) readClaims(s *service, r *read, loud bool) {
	s.reading++
	number := s.reading
	m.readDir(s, r, false, func(names []string, began time.Time) {
		slices.Sort(names)
		ev := ClaimsRead{Service: s.Name, Session: m.id, Began: began, Claims: make(map[string]Claim, len(s.VIPs))}
		for _, vip := range s.VIPs {
			ev.Claims[vip] = Claim{}
			if _, found := slices.BinarySearch(names, vip); found && !s.leaves(vip) {
				ev.Claims[vip] = Claim{Holder: Foreign}
			}
		}
		var present []*claim
		owners := make(map[*claim]int64)
		for _, c := range s.own {
			if ev.Claims[c.vip].Holder != Absent {
				present = append(present, c)
			}
		}
		s.listed(names, r.watch.mark)
		unproven := s.unproven(ev.Claims)
		got := m.gather(r, len(present)+len(unproven), func() {
			s.view = number
			m.see(s, ev, owners)
			m.finish(r, ev, loud)
		})
		for _, c := range present {
			m.readClaim(s, c, func(seen Claim, owner int64, err error) {
				ev.Claims[c.vip], owners[c] = seen, owner
				got(err)
			})
		}
		for _, vip := range unproven {
			m.prove(s, vip, func(seen Claim, err error) {
				ev.Claims[vip] = seen
				got(err)
			})
		}
	})
}

// listed compares a list of the claims with the one before. A node that took another's place in between has the same name; but a
// directory counts what is made in it and what is deleted.
func (s *service) listed(names []string, is mark) {
	was := s.list
	s.list = list{names, is}
	if is.czxid != was.mark.czxid || int(is.cversion-was.mark.cversion) != differing(was.names, names) {
		clear(s.proven)
	}
}

// differing is how many elements only one of two sorted lists has.
func differing(a, b []string) int {
	n := 0
	for len(a) > 0 && len(b) > 0 {
		switch c := strings.Compare(a[0], b[0]); {
		case c == 0:
			a, b = a[1:], b[1:]
		case c < 0:
			a, n = a[1:], n+1
		default:
			b, n = b[1:], n+1
		}
	}
	return n + len(a) + len(b)
}

// unproven returns those of the claims that this node may not hold of which it is not known yet in this session that they are
// ephemeral. What has gone must be looked at again when it comes back.
func (s *service) unproven(claims map[string]Claim) []string {
	var all []string
	for _, vip := range s.VIPs {
		switch {
		case s.mine[vip]:
		case claims[vip].Holder == Absent:
			delete(s.proven, vip)
		case !s.proven[vip]:
			all = append(all, vip)
		}
	}
	return all
}

// prove judges a claim that this node may not hold. Nobody who announces a VIP makes a persistent node: it would outlive him.
func (m *Machine) prove(s *service, vip string, then func(Claim, error)) {
	path := s.ClaimsPath + "/" + vip
	m.call(s, Call{Op: OpExists, Path: path}, func(_ *pending, res Result) {
		switch {
		case res.Err != nil:
			then(Claim{}, res.Err)
		case !res.Found:
			delete(s.proven, vip)
			then(Claim{}, nil)
		case res.Stat.Owner == 0:
			delete(s.proven, vip)
			then(squatted(path, res.Stat), nil)
		default:
			s.proven[vip] = true
			then(Claim{Holder: Foreign}, nil)
		}
	})
}

// squatted is a claim that nobody can hold.
func squatted(path string, st Stat) Claim {
	return Claim{Holder: Squatted, Czxid: st.Czxid, Detail: "a persistent node is in its claim's place, so that nobody can claim it; remedy: zkCli.sh delete " + path}
}

// readClaim reads one claim that this node may hold, and judges it.
func (m *Machine) readClaim(s *service, c *claim, then func(seen Claim, owner int64, err error)) {
	m.call(s, Call{Op: OpGet, Path: c.path}, func(_ *pending, res Result) {
		switch {
		case res.Err == nil:
			m.allow(c.path, "READ")
			then(m.judge(c, res.Data, res.Stat), res.Stat.Owner, nil)
		case errors.Is(res.Err, zk.ErrNoNode):
			then(Claim{}, 0, nil)
		case errors.Is(res.Err, zk.ErrNoAuth):
			m.readOwner(s, c, then)
		default:
			then(Claim{}, 0, res.Err)
		}
	})
}

// readOwner judges a claim whose data may not be read: whether it exists, and whose it is, needs no right.
func (m *Machine) readOwner(s *service, c *claim, then func(Claim, int64, error)) {
	m.call(s, Call{Op: OpExists, Path: c.path}, func(_ *pending, res Result) {
		switch {
		case res.Err != nil:
			then(Claim{}, 0, res.Err)
		case !res.Found:
			then(Claim{}, 0, nil)
		case res.Stat.Owner == 0:
			then(squatted(c.path, res.Stat), 0, nil)
		case res.Stat.Owner == m.id:
			then(Claim{Holder: Own, Node: m.cfg.Node, Czxid: res.Stat.Czxid}, res.Stat.Owner, nil)
		default:
			m.deny(c.path, "READ")
			then(Claim{Holder: Foreign, Detail: "its data may not be read", Czxid: res.Stat.Czxid}, res.Stat.Owner, nil)
		}
	})
}

// judge says whose a claim is that this node may hold.
func (m *Machine) judge(c *claim, data []byte, st Stat) Claim {
	d := decodeOwner(data)
	seen := Claim{Holder: Foreign, Node: d.Node, Czxid: st.Czxid}
	switch {
	case st.Owner == m.id:
		seen.Holder = Own
		c.made = max(c.made, st.Czxid)
	case st.Owner == 0:
		return squatted(c.path, st)
	case d.Node == "" && len(data) == 0:
		seen.Detail = "empty, as the Python tool makes them"
	case d.Node == "":
		seen.Detail = "its data name no node"
	case d.Node != m.cfg.Node:
		seen.Detail = fmt.Sprintf("held by node %q", d.Node)
	case d.Instance != m.cfg.Instance && c.made != 0 && st.Czxid > c.made:
		seen.Detail = fmt.Sprintf("another living process calls itself %q", d.Node)
	default:
		seen.Holder = Ghost
	}
	return seen
}

// see takes a complete reading of the claims.
func (m *Machine) see(s *service, ev ClaimsRead, owners map[*claim]int64) {
	for _, c := range s.own {
		seen := ev.Claims[c.vip]
		m.tell(s, c, seen, owners[c])
		c.seen = seen
	}
}

// tell logs what has become of a claim, once per change.
func (m *Machine) tell(s *service, c *claim, seen Claim, session int64) {
	conflict := ""
	if seen.Holder == Foreign || seen.Holder == Squatted {
		conflict = fmt.Sprintf("%d %s", seen.Czxid, seen.Detail)
	}
	if conflict == c.conflict && seen.Holder == c.seen.Holder {
		return // nothing has changed: the claims are read often
	}
	log := m.log.WithFields(logrus.Fields{"service": s.Name, "vip": c.vip, "path": c.path,
		"from": c.seen.Holder.String(), "to": seen.Holder.String()})
	if conflict != "" && conflict != c.conflict {
		level := logrus.WarnLevel
		if session == 0 || seen.Node == m.cfg.Node {
			level = logrus.ErrorLevel
		}
		what := "claim is in foreign hands"
		if seen.Holder == Squatted {
			what = "claim cannot be made"
		}
		log.WithFields(logrus.Fields{"owner": hex(session), "holder": seen.Node, "reason": seen.Detail}).Log(level, what)
	}
	if conflict == "" && seen.Holder != c.seen.Holder {
		log.WithFields(logrus.Fields{"session": hex(m.id), "czxid": seen.Czxid}).Info("claim changed")
	}
	c.conflict = conflict
}

// setWant replaces the wish.
func (m *Machine) setWant(w Want) {
	m.want = w
	for _, s := range m.services {
		for _, c := range s.own {
			if wish := m.wish(s, c); wish != c.wish {
				c.wish, c.retry = wish, retry{}
			}
		}
		if st, ok := w.Statuses[s.Name]; ok {
			m.setRecord(&s.record, *st)
		}
	}
}

func (m *Machine) wish(s *service, c *claim) Wish {
	return m.want.Claims[ClaimKey{Service: s.Name, VIP: c.vip}]
}

// pumpClaims works on every claim that is not as it should be. It acts only on a reading that is newer than the last
// attempt.
func (m *Machine) pumpClaims(s *service) {
	for _, c := range s.own {
		if c.busy || s.view < c.need {
			continue
		}
		attempt := m.attempt(c, m.wish(s, c))
		if attempt == nil {
			c.retry.fails = 0
			continue
		}
		if !c.retry.due(m.now) {
			m.later(c.retry.at)
			continue
		}
		c.busy = true
		attempt(s, c)
	}
}

// attempt returns what brings a claim nearer to the wish; nil if nothing does.
func (m *Machine) attempt(c *claim, wish Wish) func(*service, *claim) {
	switch {
	case wish == Hold && c.seen.Holder == Absent:
		return m.createClaim
	case wish == Hold && c.seen.Holder == Ghost:
		return m.takeOver
	case wish == Release && (c.seen.Holder == Own || c.seen.Holder == Ghost):
		return m.release
	}
	return nil
}

func (m *Machine) createClaim(s *service, c *claim) {
	m.call(s, Call{Op: OpCreate, Path: c.path, Data: m.claimData(), Ephemeral: true}, func(_ *pending, res Result) {
		if errors.Is(res.Err, zk.ErrNodeExists) {
			res.Err = nil // possibly by an attempt of ours whose outcome is unknown: the reading tells
		} else if res.Err == nil {
			c.born(s)
		}
		m.attempted(s, c, "create", res.Err)
	})
}

// takeOver replaces our own ghost. It looks once more before: between the look and the transaction nothing protects a
// claim that is not a ghost any more, as ZooKeeper compares versions of data only.
func (m *Machine) takeOver(s *service, c *claim) {
	m.readClaim(s, c, func(seen Claim, _ int64, err error) {
		if err != nil || seen.Holder != Ghost || m.wish(s, c) != Hold { // an answer may take long, and something else be wanted by then
			m.attempted(s, c, "get", err)
			return
		}
		m.call(s, Call{Op: OpReplace, Path: c.path, Data: m.claimData(), Ephemeral: true}, func(_ *pending, res Result) {
			if res.Err == nil {
				c.born(s)
			}
			m.attempted(s, c, "replace", res.Err)
		})
	})
}

// release deletes a claim that is ours or our ghost's, after a last look.
func (m *Machine) release(s *service, c *claim) {
	m.readClaim(s, c, func(seen Claim, _ int64, err error) {
		if err != nil || seen.Holder != Own && seen.Holder != Ghost || m.wish(s, c) != Release {
			m.attempted(s, c, "get", err)
			return
		}
		m.call(s, Call{Op: OpDelete, Path: c.path}, func(_ *pending, res Result) {
			if res.Err == nil { // whoever claims it again under our name lives, and is no ghost
				c.made = max(c.made, seen.Czxid)
			}
			m.attempted(s, c, "delete", res.Err)
		})
	})
}

// born notes that a claim was made. Its czxid is read later, when a twin may have taken its place; but it is above that of
// the newest change read in the directory, and a twin's is above it.
func (c *claim) born(s *service) { c.made = max(c.made, s.claims.watch.mark.pzxid) }

// attempted ends an attempt: whatever came of it is read.
func (m *Machine) attempted(s *service, c *claim, op string, err error) {
	c.busy = false
	c.need = s.reading + 1
	s.claims.soil(true)
	switch {
	case errors.Is(err, zk.ErrNoAuth):
		m.deny(s.ClaimsPath, rightFor(op))
		c.retry.pause(m.now, m.cfg.Resync)
	case err == nil || errors.Is(err, zk.ErrNoNode): // gone, or the directory is: the reading tells
		m.allow(s.ClaimsPath, rightFor(op))
		c.retry.pause(m.now, claimGap)
	default:
		m.complain(c.retry.fails, c.path, op, err)
		c.retry.failed(m.now)
	}
}

// rightFor names the right on the directory that an operation on a node in it needs.
func rightFor(op string) string {
	switch op {
	case "create":
		return "CREATE"
	case "replace":
		return "DELETE and CREATE"
	case "delete":
		return "DELETE"
	}
	return "READ"
}

func (m *Machine) claimData() []byte {
	return mustJSON(claimData{owner: owner{m.cfg.Node, m.cfg.Instance}, Since: m.now.UTC().Truncate(time.Millisecond)})
}

// mustJSON encodes a value of ours, which always can be encoded.
func mustJSON(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic("bug: " + err.Error())
	}
	return data
}
