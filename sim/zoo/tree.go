package zoo

import (
	"path"
	"slices"

	"exazk/zkstate"

	"github.com/go-zookeeper/zk"
)

// znode is never changed once it is in a tree: all servers share it.
type znode struct {
	data  []byte
	stat  zkstate.Stat
	names []string // of its children, sorted
}

// tree is what one server knows.
type tree map[string]*znode

// newTree is what an empty data directory holds. The root counts one change less than it has had, as in a real one.
func newTree() tree {
	return tree{"/": {names: []string{"zookeeper"}, stat: zkstate.Stat{Cversion: -1}}, "/zookeeper": {}}
}

// deed is what became of a path, and with that, whose watches fire.
type deed uint8

const (
	unseen  deed = iota // only metadata: the parent of what came or went
	created             // data watches of the path, child watches of its parent
	deleted             // all watches of the path, child watches of its parent
	written             // data watches of the path
)

// change is one node as it is after a transaction.
type change struct {
	path string
	dir  string // its parent
	node *znode // nil: it is gone
	deed deed
}

// txn is an entry of the log. One without changes is a request that failed, a sync, or a session's beginning: it only keeps
// its place among the others.
type txn struct {
	zxid    int64
	changes []change
	req     *request // that asked for it; nil for what the leader does by itself
	err     error    // the answer to req
	ends    *session // whose end this is
}

func (t tree) store(c change) {
	if c.node == nil {
		delete(t, c.path)
	} else {
		t[c.path] = c.node
	}
}

// draft is a transaction in the making, on the tree of what is committed; every step of it is stored at once.
type draft struct {
	tree tree
	txn  *txn
}

func (d *draft) put(p string, n *znode, what deed) {
	c := change{path: p, dir: path.Dir(p), node: n, deed: what}
	d.tree.store(c)
	d.txn.changes = append(d.txn.changes, c)
}

// checkCreate says why a node cannot be made. What is missing is told before what is there (PrepRequestProcessor).
func (t tree) checkCreate(p string) error {
	if p == "/" {
		return zk.ErrNodeExists
	}
	parent := t[path.Dir(p)]
	switch {
	case parent == nil:
		return zk.ErrNoNode
	case t[p] != nil:
		return zk.ErrNodeExists
	case parent.stat.Owner != 0:
		return zk.ErrNoChildrenForEphemerals
	}
	return nil
}

// anyVersion is the version that fits every node.
const anyVersion = -1

// checkDelete says why a node cannot be removed.
func (t tree) checkDelete(p string, version int32) error {
	n := t[p]
	switch {
	case n == nil:
		return zk.ErrNoNode
	case version != anyVersion && n.stat.Version != version:
		return zk.ErrBadVersion
	case len(n.names) > 0:
		return zk.ErrNotEmpty
	}
	return nil
}

func (t tree) checkSet(p string, version int32) error {
	n := t[p]
	switch {
	case n == nil:
		return zk.ErrNoNode
	case version != anyVersion && n.stat.Version != version:
		return zk.ErrBadVersion
	}
	return nil
}

// create makes a node that checkCreate allows.
func (d *draft) create(p string, data []byte, owner int64) {
	z := d.txn.zxid
	d.put(p, &znode{data: data, stat: zkstate.Stat{Czxid: z, Mzxid: z, Pzxid: z, Owner: owner, Length: int32(len(data))}}, created)
	d.family(p, func(names []string, i int) []string { return slices.Insert(names, i, path.Base(p)) })
}

// remove takes a node away that checkDelete allows.
func (d *draft) remove(p string) {
	d.put(p, nil, deleted)
	d.family(p, func(names []string, i int) []string { return slices.Delete(names, i, i+1) })
}

// family notes in the parent of p that p came or went.
func (d *draft) family(p string, edit func(names []string, i int) []string) {
	dir := path.Dir(p)
	old := d.tree[dir]
	n := &znode{data: old.data, stat: old.stat}
	i, _ := slices.BinarySearch(old.names, path.Base(p))
	n.names = edit(slices.Clone(old.names), i)
	n.stat.Cversion++
	n.stat.Pzxid = d.txn.zxid
	d.put(dir, n, unseen)
}

// set replaces the data of a node that checkSet allows.
func (d *draft) set(p string, data []byte) {
	old := d.tree[p]
	n := &znode{data: data, stat: old.stat, names: old.names}
	n.stat.Mzxid, n.stat.Length = d.txn.zxid, int32(len(data))
	n.stat.Version++
	d.put(p, n, written)
}

// call carries out a writing call; owner is the session that asks.
func (d *draft) call(c zkstate.Call, owner int64) error {
	switch c.Op {
	case zkstate.OpCreate:
		if err := d.tree.checkCreate(c.Path); err != nil {
			return err
		}
		if !c.Ephemeral {
			owner = 0
		}
		d.create(c.Path, c.Data, owner)
	case zkstate.OpSet:
		if err := d.tree.checkSet(c.Path, c.Version); err != nil {
			return err
		}
		d.set(c.Path, c.Data)
	case zkstate.OpDelete:
		return d.drop(c.Path, anyVersion)
	case zkstate.OpRemove:
		return d.drop(c.Path, c.Version)
	case zkstate.OpReplace: // one transaction: nobody ever sees the node absent (fact 8)
		if err := d.drop(c.Path, anyVersion); err != nil {
			return err
		}
		d.create(c.Path, c.Data, owner)
	}
	return nil
}

func (d *draft) drop(p string, version int32) error {
	if err := d.tree.checkDelete(p, version); err != nil {
		return err
	}
	d.remove(p)
	return nil
}

// read answers a call that only reads. The slices of the answer are the tree's and must not be changed.
func (t tree) read(c zkstate.Call) zkstate.Result {
	res := zkstate.Result{Tag: c.Tag}
	n := t[c.Path]
	if n == nil {
		if c.Op != zkstate.OpExists {
			res.Err = zk.ErrNoNode
		}
		return res
	}
	res.Stat = n.stat
	switch c.Op {
	case zkstate.OpChildren:
		res.Names = n.names
	case zkstate.OpGet:
		res.Data = n.data
	case zkstate.OpExists:
		res.Found = true
	}
	return res
}
