package zkstate

import (
	"sync"
	"testing"

	"github.com/go-zookeeper/zk"
)

// fakeServer is a tree that several clients share. It may be frozen: then calls wait.
type fakeServer struct {
	mu      sync.Mutex
	tree    *tree
	clients map[int64]*fakeClient
	frozen  chan struct{} // nil while it is not; closed by thaw
	waiting int           // calls that wait for it to thaw
}

func newFakeServer(t *testing.T) *fakeServer {
	f := &fakeServer{clients: make(map[int64]*fakeClient)}
	f.tree = newTree(func(session int64, path string) {
		if c := f.clients[session]; c != nil {
			c.push(NodeChanged{c.number, path})
		}
	})
	t.Cleanup(func() {
		for _, fault := range f.tree.faults {
			t.Error(fault)
		}
	})
	return f
}

// fakeClient is one client of a fakeServer.
type fakeClient struct {
	srv    *fakeServer
	node   string
	number uint64
	push   func(Input)
	closed chan struct{}

	id int64 // guarded by srv.mu; 0 while there is no connection
}

// with runs f while nobody else uses the tree.
func (f *fakeServer) with(do func(*tree)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do(f.tree)
}

func (f *fakeServer) freeze() { f.with(func(*tree) { f.frozen = make(chan struct{}) }) }

func (f *fakeServer) thaw() {
	f.with(func(*tree) {
		close(f.frozen)
		f.frozen = nil
	})
}

func (c *fakeClient) connect(up SessionUp) {
	c.srv.with(func(*tree) {
		c.id = up.ID
		c.srv.clients[up.ID] = c
	})
	up.Conn = c.number
	c.push(up)
}

func (c *fakeClient) disconnect() {
	c.srv.with(func(*tree) { c.id = 0 })
	c.push(SessionDown{c.number})
}

// call has a call answered.
func (c *fakeClient) call(call Call) Result {
	c.srv.mu.Lock()
	if frozen := c.srv.frozen; frozen != nil {
		c.srv.waiting++
		c.srv.mu.Unlock()
		select {
		case <-frozen:
		case <-c.closed:
		}
		c.srv.mu.Lock()
		c.srv.waiting--
	}
	defer c.srv.mu.Unlock()
	select {
	case <-c.closed:
		return Result{Err: zk.ErrClosing}
	default:
	}
	if c.id == 0 {
		return Result{Err: zk.ErrConnectionClosed}
	}
	return c.srv.tree.serve(c.id, c.node, call)
}

// stat gives the client library's words for what the tree says.
func stat(res Result) *zk.Stat {
	st := res.Stat
	return &zk.Stat{Czxid: st.Czxid, Mzxid: st.Mzxid, Pzxid: st.Pzxid, Cversion: st.Cversion, Version: st.Version,
		EphemeralOwner: st.Owner, DataLength: st.Length}
}

func (c *fakeClient) children(path string, watch bool) ([]string, *zk.Stat, error) {
	res := c.call(Call{Op: OpChildren, Path: path, Watch: watch})
	return res.Names, stat(res), res.Err
}

func (c *fakeClient) get(path string, watch bool) ([]byte, *zk.Stat, error) {
	res := c.call(Call{Op: OpGet, Path: path, Watch: watch})
	return res.Data, stat(res), res.Err
}

func (c *fakeClient) exists(path string, watch bool) (bool, *zk.Stat, error) {
	res := c.call(Call{Op: OpExists, Path: path, Watch: watch})
	return res.Found || res.Err != nil, stat(res), res.Err // true beside an error, as the library does it
}

func (c *fakeClient) Children(path string) ([]string, *zk.Stat, error) {
	return c.children(path, false)
}

func (c *fakeClient) ChildrenW(path string) ([]string, *zk.Stat, <-chan zk.Event, error) {
	names, st, err := c.children(path, true)
	return names, st, nil, err
}

func (c *fakeClient) Get(path string) ([]byte, *zk.Stat, error) { return c.get(path, false) }

func (c *fakeClient) GetW(path string) ([]byte, *zk.Stat, <-chan zk.Event, error) {
	data, st, err := c.get(path, true)
	return data, st, nil, err
}

func (c *fakeClient) Exists(path string) (bool, *zk.Stat, error) { return c.exists(path, false) }

func (c *fakeClient) ExistsW(path string) (bool, *zk.Stat, <-chan zk.Event, error) {
	found, st, err := c.exists(path, true)
	return found, st, nil, err
}

func (c *fakeClient) Create(path string, data []byte, flags int32, _ []zk.ACL) (string, error) {
	return path, c.call(Call{Op: OpCreate, Path: path, Data: data, Ephemeral: flags == zk.FlagEphemeral}).Err
}

func (c *fakeClient) Set(path string, data []byte, version int32) (*zk.Stat, error) {
	res := c.call(Call{Op: OpSet, Path: path, Data: data, Version: version})
	return stat(res), res.Err
}

func (c *fakeClient) Delete(path string, version int32) error {
	if version >= 0 {
		return c.call(Call{Op: OpRemove, Path: path, Version: version}).Err
	}
	return c.call(Call{Op: OpDelete, Path: path}).Err
}

func (c *fakeClient) Multi(ops ...any) ([]zk.MultiResponse, error) {
	create := ops[1].(*zk.CreateRequest)
	return nil, c.call(Call{Op: OpReplace, Path: create.Path, Data: create.Data}).Err
}

func (c *fakeClient) Sync(path string) (string, error) { return path, c.call(Call{Op: OpSync}).Err }

// Close ends the session, unless the server is frozen: then it waits for a second, as the library does.
func (c *fakeClient) Close() {
	close(c.closed)
	c.srv.with(func(t *tree) {
		if c.id != 0 && c.srv.frozen == nil {
			delete(c.srv.clients, c.id)
			t.expire(c.id)
		}
		c.id = 0
	})
}
