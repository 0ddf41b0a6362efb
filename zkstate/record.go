package zkstate

import (
	"bytes"
	"errors"
	"path"
	"time"

	"github.com/go-zookeeper/zk"
)

// recordGap is the least time between two writings of one status record: at most ten a second reach the other nodes.
const recordGap = 100 * time.Millisecond

// record is this node's own status record of one service.
type record struct {
	path    string
	status  Status // what it should say
	want    []byte // the same as JSON; nil means leave it
	have    []byte // what was written in this session; nil means unknown
	version int32  // of the znode after what was written
	made    int64  // as a claim's
	check   bool   // look whether it is still there
	busy    bool
	retry   retry
	twin    bool // a twin's, and logged
}

// setRecord replaces what the record should say.
func (m *Machine) setRecord(r *record, st Status) {
	if r.want == nil || !st.Equal(r.status) {
		r.want, r.status = m.cfg.Memo.encode(st), st
	}
}

// pumpRecord writes the record if it does not say what it should.
func (m *Machine) pumpRecord(s *service) {
	r := &s.record
	if r.busy || r.want == nil || bytes.Equal(r.want, r.have) && !r.check {
		return
	}
	if !r.retry.due(m.now) {
		m.later(r.retry.at)
		return
	}
	data := r.want
	r.busy, r.check = true, false
	m.call(s, Call{Op: OpExists, Path: r.path}, func(_ *pending, res Result) {
		switch {
		case res.Err != nil:
			m.wrote(r, nil, "exists", res.Err)
		case !res.Found:
			m.writeRecord(s, Call{Op: OpCreate, Path: r.path, Data: data, Ephemeral: true})
		case res.Stat.Owner == m.id && bytes.Equal(data, r.have) && res.Stat.Version == r.version: // else somebody has written over it
			r.made = max(r.made, res.Stat.Czxid)
			m.wrote(r, data, "exists", nil)
		case res.Stat.Owner == m.id:
			r.made = max(r.made, res.Stat.Czxid)
			m.writeRecord(s, Call{Op: OpSet, Path: r.path, Data: data, Version: res.Stat.Version})
		default:
			m.replaceRecord(s, data)
		}
	})
}

// replaceRecord takes the record's place from whoever has it, except from a living process of the same name that took it
// from us: the two would do so for ever.
func (m *Machine) replaceRecord(s *service, data []byte) {
	r := &s.record
	m.call(s, Call{Op: OpGet, Path: r.path}, func(_ *pending, res Result) {
		if errors.Is(res.Err, zk.ErrNoNode) {
			m.wrote(r, nil, "get", nil)
			return
		}
		if res.Err != nil && !errors.Is(res.Err, zk.ErrNoAuth) {
			m.wrote(r, nil, "get", res.Err)
			return
		}
		st, err := DecodeStatus(m.cfg.Node, res.Data)
		twin := err == nil && st.Instance != m.cfg.Instance && res.Stat.Owner != 0 && r.made != 0 && res.Stat.Czxid > r.made
		if twin {
			if !r.twin {
				m.log.WithField("path", r.path).WithField("owner", hex(res.Stat.Owner)).WithField("node", m.cfg.Node).
					Error("another living process has this node's name and writes its status record")
			}
			r.twin, r.busy = true, false
			r.retry.pause(m.now, m.cfg.Resync)
			return
		}
		m.writeRecord(s, Call{Op: OpReplace, Path: r.path, Data: data, Ephemeral: true})
	})
}

func (m *Machine) writeRecord(s *service, c Call) {
	r := &s.record
	r.have = nil // until it is known what became of it
	m.call(s, c, func(_ *pending, res Result) {
		if r.version = 0; c.Op == OpSet {
			r.version = c.Version + 1
		}
		if res.Err == nil && c.Op != OpSet {
			r.made = max(r.made, s.peers.watch.mark.pzxid) // it is newer than that, and a twin's newer still
		}
		if c.Op == OpCreate && errors.Is(res.Err, zk.ErrNoNode) {
			m.makeDir(s, path.Dir(r.path), func(err error) { m.wrote(r, nil, "make directory", err) })
			return
		}
		switch {
		case errors.Is(res.Err, zk.ErrNodeExists), errors.Is(res.Err, zk.ErrBadVersion), errors.Is(res.Err, zk.ErrNoNode):
			m.wrote(r, nil, c.Op.String(), nil) // it has changed since the look: look again
		default:
			m.wrote(r, c.Data, c.Op.String(), res.Err)
		}
	})
}

// wrote ends a writing; have is what the record says now, nil if that is not known.
func (m *Machine) wrote(r *record, have []byte, op string, err error) {
	r.busy = false
	switch {
	case err == nil:
		r.have = have
		r.twin = false
		r.retry = retry{}
		r.retry.pause(m.now, recordGap)
		m.allow(path.Dir(r.path), rightFor(op))
	case errors.Is(err, zk.ErrNoAuth):
		r.have = nil
		if op != "make directory" { // that has told already
			m.deny(path.Dir(r.path), rightFor(op))
		}
		r.retry.pause(m.now, m.cfg.Resync)
	default:
		r.have = nil
		m.complain(r.retry.fails, r.path, op, err)
		r.retry.failed(m.now)
	}
}
