package zkstate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/go-zookeeper/zk"
)

const (
	maxRecord = 64 << 10 // bytes of a status record
	maxPeers  = 256      // status records of one service
	// Least time between two readings of one thing, so that a storm of changes costs a bounded number of calls. The
	// first change is read at once.
	readGap  = 20 * time.Millisecond
	peersGap = 100 * time.Millisecond
)

// service is what is known and under way of one service.
type service struct {
	Service
	claims, maintenance, failback, peers read
	reads                                []*read // those of them that there are

	records  map[string]*peer // by node name
	tooMany  bool             // more than maxPeers, and logged
	own      []*claim         // one per authoritative VIP, in the order of the configuration
	reading  uint64           // number of the newest reading of the claims that was begun
	view     uint64           // number of the newest that is complete, and which own holds
	record   record
	removals [numFlags]removal
	list     list            // of the claims, as it was read last
	mine     map[string]bool // the VIPs that this node is authoritative for
	proven   map[string]bool // by VIP that is another's: its claim is there, and it is ephemeral
	left     []*held         // claims on its other VIPs that were ours before a reconfiguration
}

func newService(cfg Service) *service {
	s := &service{Service: cfg, records: make(map[string]*peer), mine: make(map[string]bool), proven: make(map[string]bool)}
	s.claims = read{path: cfg.ClaimsPath, gap: readGap, start: (*Machine).readClaims}
	s.maintenance = read{path: cfg.MaintenancePath, gap: readGap, start: (*Machine).readMaintenance}
	s.failback = read{path: cfg.FailbackPath, gap: readGap, start: (*Machine).readFailback}
	s.peers = read{path: path.Dir(cfg.StatusPath), gap: peersGap, start: (*Machine).readPeers}
	for _, vip := range cfg.Authoritative {
		if !slices.Contains(cfg.VIPs, vip) {
			panic(fmt.Sprintf("bug: VIP %q of service %q is authoritative and not configured", vip, cfg.Name))
		}
		s.mine[vip] = true
		s.own = append(s.own, &claim{vip: vip, path: cfg.ClaimsPath + "/" + vip})
	}
	s.reads = []*read{&s.claims, &s.maintenance, &s.peers}
	if cfg.FailbackPath != "" {
		s.reads = []*read{&s.claims, &s.maintenance, &s.failback, &s.peers}
	}
	s.record.path = cfg.StatusPath
	return s
}

// list is what was in a directory.
type list struct {
	names []string // sorted
	mark  mark
}

// begin prepares for a session that came up: everything is to be read, and nothing is under way.
func (s *service) begin() {
	for _, r := range s.reads {
		*r = read{path: r.path, gap: r.gap, start: r.start, watch: r.watch, dirty: true}
	}
	for _, c := range s.own {
		c.busy, c.retry, c.need = false, retry{}, s.reading+1
	}
	s.record.busy, s.record.retry, s.record.check = false, retry{}, true
	s.removals = [numFlags]removal{}
	clear(s.proven)
}

// unwatch forgets all watches, which ended with the session before.
func (s *service) unwatch() {
	for _, r := range s.reads {
		r.watch = watch{}
	}
	clear(s.records)
	s.record.have = nil
}

// complete reports whether everything was read that the ACLs allow.
func (s *service) complete() bool {
	return !slices.ContainsFunc(s.reads, func(r *read) bool { return r.result == nil && !r.refused })
}

// nodeChanged notes that the watches on path have fired.
func (s *service) nodeChanged(changed string) {
	for _, r := range s.reads {
		if r.path == changed {
			r.watch.fire()
			r.soil(true)
		}
	}
	if dir, name := path.Split(changed); path.Clean(dir) == s.peers.path {
		if p := s.records[name]; p != nil {
			p.watch.fire()
			s.peers.soil(true)
		}
	}
}

// watch is a one-shot watch. Watches are armed by a reading, and only while none is armed: the library keeps a channel for
// every one.
type watch struct {
	armed bool
	fired bool // while the call that arms it was on its way
	mark  mark
}

// mark tells two states of a node apart.
type mark struct {
	czxid, mzxid, pzxid int64
	cversion            int32
}

func markOf(st Stat) mark { return mark{st.Czxid, st.Mzxid, st.Pzxid, st.Cversion} }

// ask reports whether the next call should arm the watch.
func (w *watch) ask() bool {
	w.fired = false
	return !w.armed
}

// got notes the answer to such a call. It returns true if the watch turns out to be dead: it was armed before, the node
// has changed and it has not fired, although a server sends what fired before the answer to a later request. (After a
// reconnect, when the library sets its watches anew beside our readings, a living one may look so too; then one more is
// armed, which does no harm.)
func (w *watch) got(asked bool, mk mark) bool {
	dead := !asked && w.armed && w.mark != mk
	w.mark = mk
	switch {
	case asked:
		w.armed = !w.fired
	case dead:
		w.armed = false
	}
	return dead
}

func (w *watch) fire() { w.armed, w.fired = false, true }

// read is one thing that is read again and again.
type read struct {
	path  string
	gap   time.Duration                         // between the starts of two readings
	start func(*Machine, *service, *read, bool) // the bool: emit the result even if it is known already

	watch   watch
	dirty   bool // to be read again
	loud    bool // the next reading is emitted whatever it says
	busy    bool // a reading is under way
	refused bool // by an ACL
	began   time.Time
	retry   retry
	result  Event // the newest since the session came up
}

func (r *read) soil(loud bool) {
	r.dirty = true
	r.loud = r.loud || loud
}

// pumpReads starts the readings that are due.
func (m *Machine) pumpReads(s *service) {
	for _, r := range s.reads {
		if r.busy || !r.dirty || r == &s.claims && s.clearing() {
			continue
		}
		at := r.retry.at
		if next := r.began.Add(r.gap); !r.began.IsZero() && next.After(at) {
			at = next
		}
		if m.now.Before(at) {
			m.later(at)
			continue
		}
		loud := r.loud
		r.busy, r.dirty, r.loud, r.began = true, false, false, m.now
		r.start(m, s, r, loud)
	}
}

// finish takes a complete reading.
func (m *Machine) finish(r *read, ev Event, loud bool) {
	known := r.result
	r.busy, r.refused, r.retry = false, false, retry{}
	r.result = ev
	if m.synced && (loud || !sameReading(known, ev)) {
		m.emit(ev)
	}
}

// fail gives a reading up: what was known before stays, and it is tried again. It stays loud, as it must not get lost.
func (m *Machine) fail(r *read, err error) {
	r.busy = false
	r.soil(true)
	if errors.Is(err, zk.ErrNoAuth) {
		r.refused = true
		r.retry.pause(m.now, m.cfg.Resync)
		return
	}
	m.complain(r.retry.fails, r.path, "read", err)
	r.retry.failed(m.now)
}

// gather returns what is to be told of each of n answers that a reading needs. The first one that went wrong gives the reading up; after
// the last one, at once if there is none, done ends it.
func (m *Machine) gather(r *read, n int, done func()) func(error) {
	failed := false
	if n == 0 {
		done()
	}
	return func(err error) {
		n--
		switch {
		case failed:
		case err != nil:
			failed = true
			m.fail(r, err)
		case n == 0:
			done()
		}
	}
}

// again restarts a reading whose ground has moved.
func (r *read) again() {
	r.busy = false
	r.soil(true)
}

// readDir lists a directory of ours and hands the names and the time of asking to then. A directory that is missing is
// made and read again: missing is not empty.
func (m *Machine) readDir(s *service, r *read, patient bool, then func(names []string, began time.Time)) {
	asked := r.watch.ask()
	call := m.call
	if patient {
		call = m.callPatiently
	}
	call(s, Call{Op: OpChildren, Path: r.path, Watch: asked}, func(p *pending, res Result) {
		switch {
		case errors.Is(res.Err, zk.ErrNoNode):
			r.watch.armed = false
			m.makeDir(s, r.path, func(err error) {
				if err != nil {
					m.fail(r, err)
					return
				}
				r.again()
			})
		case res.Err != nil:
			if errors.Is(res.Err, zk.ErrNoAuth) {
				m.deny(r.path, "READ")
			}
			m.fail(r, res.Err)
		default:
			m.allow(r.path, "READ")
			if r.watch.got(asked, markOf(res.Stat)) {
				r.soil(true)
			}
			then(res.Names, p.sent)
		}
	})
}

// makeDir creates a persistent directory, and those above it that are missing. It begins with the deepest: a node that
// may not write further up gets "no right" there even for what exists.
func (m *Machine) makeDir(s *service, dir string, done func(error)) {
	m.call(s, Call{Op: OpCreate, Path: dir}, func(_ *pending, res Result) {
		parent := path.Dir(dir)
		switch {
		case res.Err == nil:
			m.log.WithField("path", dir).Info("ZooKeeper directory is created")
			m.allow(parent, "CREATE")
			done(nil)
		case errors.Is(res.Err, zk.ErrNodeExists):
			done(nil)
		case errors.Is(res.Err, zk.ErrNoNode) && parent != dir && parent != "/":
			m.makeDir(s, parent, func(err error) {
				if err != nil {
					done(err)
					return
				}
				m.makeDir(s, dir, done)
			})
		case errors.Is(res.Err, zk.ErrNoAuth):
			m.deny(parent, "CREATE")
			done(res.Err)
		default:
			done(res.Err)
		}
	})
}

// peer is another node's status record.
type peer struct {
	watch  watch
	wrong  string // why it is of no use, which was logged; empty where it is
	data   []byte // as last read; nil if that was of no use
	status Status // what it says
}

// readPeers reads the status records of all other nodes.
func (m *Machine) readPeers(s *service, r *read, loud bool) {
	m.readDir(s, r, true, func(names []string, began time.Time) {
		names = m.peerNames(s, names)
		ev := PeersRead{Service: s.Name, Session: m.id, Began: began, Peers: make(map[string]Status, len(names))}
		got := m.gather(r, len(names), func() { m.finish(r, ev, loud) })
		for _, name := range names {
			m.readPeer(s, name, func(st *Status, err error) {
				switch p := s.records[name]; {
				case st != nil:
					ev.Peers[name] = *st
				case err == nil && p != nil && p.wrong != "":
					if ev.Junk == nil {
						ev.Junk = make(map[string]string)
					}
					ev.Junk[name] = p.wrong
				}
				got(err)
			})
		}
	})
}

// peerNames returns the other nodes among names, sorted and bounded, and forgets those that have gone. Where our own
// record is not among them it is looked for.
func (m *Machine) peerNames(s *service, names []string) []string {
	own := path.Base(s.StatusPath)
	if !slices.Contains(names, own) {
		s.record.check = true
		if s.record.twin {
			s.record.retry = retry{} // it has gone
		}
	}
	names = slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == own })
	slices.Sort(names)
	if over := len(names) > maxPeers; over {
		names = names[:maxPeers]
		if !s.tooMany {
			m.log.WithField("path", s.peers.path).Warn("more status records than are read")
		}
		s.tooMany = true
	} else {
		s.tooMany = false
	}
	for name := range s.records {
		if _, found := slices.BinarySearch(names, name); !found {
			delete(s.records, name)
		}
	}
	return names
}

// readPeer reads one record. It hands nil to then for one that has gone or cannot be used.
func (m *Machine) readPeer(s *service, name string, then func(*Status, error)) {
	at := s.peers.path + "/" + name
	p := s.records[name]
	if p == nil {
		p = &peer{watch: m.adopt(watchKey{path: at})}
		s.records[name] = p
	}
	asked := p.watch.ask()
	m.callPatiently(s, Call{Op: OpGet, Path: at, Watch: asked}, func(_ *pending, res Result) {
		switch {
		case errors.Is(res.Err, zk.ErrNoNode):
			p.watch.armed, p.wrong = false, ""
			then(nil, nil)
			return
		case errors.Is(res.Err, zk.ErrNoAuth):
			m.badPeer(p, at, res.Err)
			then(nil, nil)
			return
		case res.Err != nil:
			then(nil, res.Err)
			return
		}
		if p.watch.got(asked, markOf(res.Stat)) {
			s.peers.soil(true)
		}
		if p.data == nil || !bytes.Equal(p.data, res.Data) { // one record changes, and all are read
			st, err := m.cfg.Memo.decode(name, res.Data)
			if err != nil {
				m.badPeer(p, at, err)
				then(nil, nil)
				return
			}
			p.data, p.status = res.Data, st
		}
		p.wrong = ""
		then(&p.status, nil)
	})
}

// badPeer logs, once until it is good again, that a record is of no use.
func (m *Machine) badPeer(p *peer, at string, err error) {
	if p.wrong == "" {
		m.log.WithError(err).WithField("path", at).Warn("status record is left out")
	}
	p.wrong, p.data = err.Error(), nil
}

var (
	errTooLong = errors.New("longer than a status record can be")
	errMisfit  = errors.New("names another node than its path does")
)

// Memo remembers what status records say, for many Machines in one goroutine that write and read the same ones: a simulated
// cluster. What it hands out is shared and must not be changed. A nil Memo remembers nothing.
type Memo struct {
	read    map[string]*Status
	encoded int
}

// NewMemo makes an empty Memo.
func NewMemo() *Memo { return &Memo{read: map[string]*Status{}} }

// proof is how many records are written before one is decoded at once, to see that it says what was meant.
const proof = 64

// encode makes the JSON of a record and remembers what it says, so that nobody needs to decode it.
func (m *Memo) encode(st Status) []byte {
	data := mustJSON(&st)
	if m == nil {
		return data
	}
	if m.encoded++; m.encoded%proof == 0 {
		if read, err := DecodeStatus(st.Node, data); err != nil || !read.Equal(st) {
			panic(fmt.Sprintf("bug: status record %s reads as %+v, %v", data, read, err))
		}
	}
	m.read[string(data)] = &st
	return data
}

func (m *Memo) decode(name string, data []byte) (Status, error) {
	if m == nil {
		return DecodeStatus(name, data)
	}
	if st, ok := m.read[string(data)]; ok && st.Node == name {
		return *st, nil
	}
	st, err := DecodeStatus(name, data)
	if err == nil {
		m.read[string(data)] = &st
	}
	return st, err
}

// DecodeStatus reads the status record of a node of that name; unknown fields are those of a newer version. The error says in a few
// words what it is not.
func DecodeStatus(name string, data []byte) (Status, error) {
	var st Status
	if len(data) > maxRecord {
		return st, errTooLong
	}
	if err := json.Unmarshal(data, &st); err != nil {
		return st, errors.New(validName(err.Error())) // it may quote what it has found, all of it
	}
	if st.Node != name {
		return st, errMisfit
	}
	st.Since = Instant(st.Since)
	return st, nil
}

// validName bounds what others wrote, a node's name above all, and is shown to people.
func validName(s string) string { return strings.ToValidUTF8(s[:min(len(s), maxName)], "?") }

const maxName = 255 // bytes
