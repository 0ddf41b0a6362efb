package zkstate

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/go-zookeeper/zk"
)

// tree is a ZooKeeper in memory: one zxid, nodes, and the one-shot watches of every session. It is strict: what a client
// must never do is noted in faults.
type tree struct {
	zxid    int64
	nodes   map[string]*znode
	watches map[serverWatch]bool
	deny    map[string]bool // "READ /path", "CREATE /path", "DELETE /path"
	faults  []string
	fire    func(session int64, path string)
}

type znode struct {
	data []byte
	stat Stat
}

type serverWatch struct {
	session int64
	path    string
	child   bool
}

func newTree(fire func(session int64, path string)) *tree {
	return &tree{zxid: 100, nodes: map[string]*znode{"/": {}}, watches: make(map[serverWatch]bool), deny: make(map[string]bool), fire: fire}
}

func (t *tree) fault(format string, args ...any) {
	t.faults = append(t.faults, fmt.Sprintf(format, args...))
}

func (t *tree) children(dir string) []string {
	var names []string
	for _, p := range slices.Sorted(maps.Keys(t.nodes)) {
		if p != "/" && path.Dir(p) == dir {
			names = append(names, path.Base(p))
		}
	}
	return names
}

// put makes a node and what is missing above it, as somebody else would.
func (t *tree) put(p string, owner int64, data string) {
	if dir := path.Dir(p); t.nodes[dir] == nil {
		t.put(dir, 0, "")
	}
	if err := t.create(p, owner, []byte(data)); err != nil {
		t.fault("put %s: %v", p, err)
	}
}

func (t *tree) create(p string, owner int64, data []byte) error {
	parent := t.nodes[path.Dir(p)]
	switch {
	case t.deny["CREATE "+path.Dir(p)]:
		return zk.ErrNoAuth
	case parent == nil:
		return zk.ErrNoNode
	case parent.stat.Owner != 0:
		return zk.ErrNoChildrenForEphemerals
	case t.nodes[p] != nil:
		return zk.ErrNodeExists
	}
	t.zxid++
	t.nodes[p] = &znode{data: data, stat: Stat{Czxid: t.zxid, Mzxid: t.zxid, Pzxid: t.zxid, Owner: owner, Length: int32(len(data))}}
	t.changed(p, true)
	return nil
}

func (t *tree) remove(p string) error {
	switch {
	case t.nodes[p] == nil:
		return zk.ErrNoNode
	case t.deny["DELETE "+path.Dir(p)]:
		return zk.ErrNoAuth
	case len(t.children(p)) > 0:
		return zk.ErrNotEmpty
	}
	t.zxid++
	delete(t.nodes, p)
	t.changed(p, true)
	t.trigger(p, true)
	return nil
}

func (t *tree) set(p, data string) {
	t.zxid++
	n := t.nodes[p]
	n.data, n.stat.Mzxid, n.stat.Length = []byte(data), t.zxid, int32(len(data))
	n.stat.Version++
	t.trigger(p, false)
}

// changed notes that p came or went.
func (t *tree) changed(p string, membership bool) {
	t.trigger(p, false)
	if parent := t.nodes[path.Dir(p)]; parent != nil && membership {
		parent.stat.Cversion++
		parent.stat.Pzxid = t.zxid
		t.trigger(path.Dir(p), true)
	}
}

func (t *tree) trigger(p string, child bool) {
	keys := slices.Collect(maps.Keys(t.watches))
	slices.SortFunc(keys, func(a, b serverWatch) int { return int(a.session - b.session) })
	for _, k := range keys {
		if k.path == p && k.child == child {
			delete(t.watches, k)
			t.fire(k.session, p)
		}
	}
}

func (t *tree) arm(session int64, p string, child bool) {
	k := serverWatch{session, p, child}
	if t.watches[k] {
		t.fault("session %#x arms a second watch on %s", session, p)
	}
	t.watches[k] = true
}

// expire ends a session.
func (t *tree) expire(session int64) {
	maps.DeleteFunc(t.watches, func(k serverWatch, _ bool) bool { return k.session == session })
	for _, p := range slices.Sorted(maps.Keys(t.nodes)) {
		if t.nodes[p].stat.Owner == session {
			t.remove(p)
		}
	}
}

// serve answers a call as a server would.
func (t *tree) serve(session int64, node string, c Call) Result {
	res := Result{Tag: c.Tag}
	n := t.nodes[c.Path]
	switch c.Op {
	case OpSync:
	case OpChildren, OpGet:
		switch {
		case n == nil:
			res.Err = zk.ErrNoNode
		case t.deny["READ "+c.Path]:
			res.Err = zk.ErrNoAuth
		default:
			res.Stat = n.stat
			if c.Op == OpGet {
				res.Data = n.data
			} else {
				res.Names = t.children(c.Path)
			}
			if c.Watch {
				t.arm(session, c.Path, c.Op == OpChildren)
			}
		}
	case OpExists:
		if n != nil {
			res.Found, res.Stat = true, n.stat
		}
		if c.Watch {
			t.arm(session, c.Path, false)
		}
	case OpCreate:
		owner := int64(0)
		if c.Ephemeral {
			owner = session
		}
		res.Err = t.create(c.Path, owner, c.Data)
	case OpSet:
		switch {
		case n == nil:
			res.Err = zk.ErrNoNode
		case n.stat.Version != c.Version:
			res.Err = zk.ErrBadVersion
		case string(n.data) == string(c.Data):
			t.fault("%s is written though it says this already", c.Path)
		default:
			t.set(c.Path, string(c.Data))
		}
	case OpDelete:
		t.checkRemoval(session, node, c.Path)
		res.Err = t.remove(c.Path)
	case OpRemove:
		switch {
		case n == nil:
			res.Err = zk.ErrNoNode
		case n.stat.Version != c.Version:
			res.Err = zk.ErrBadVersion
		default:
			t.checkRemoval(session, node, c.Path)
			res.Err = t.remove(c.Path)
		}
	case OpReplace:
		t.checkRemoval(session, node, c.Path)
		if t.deny["CREATE "+path.Dir(c.Path)] {
			res.Err = zk.ErrNoAuth
			break
		}
		if res.Err = t.remove(c.Path); res.Err == nil {
			res.Err = t.create(c.Path, session, c.Data)
		}
	}
	return res
}

// checkRemoval finds fault with the removal of a stranger's claim.
func (t *tree) checkRemoval(session int64, node, p string) {
	n := t.nodes[p]
	if n == nil || n.stat.Owner == session || !strings.Contains(p, "/service/") {
		return
	}
	if n.stat.Owner == 0 || decodeOwner(n.data).Node != node {
		t.fault("session %#x removes the foreign claim %s", session, p)
	}
}
