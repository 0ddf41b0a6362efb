package zkstate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"
	"github.com/sirupsen/logrus"
)

const (
	// adminSession is the session timeout that a command asks for. Nothing hangs on its session: it is closed at the end, or
	// expires.
	adminSession = 6 * time.Second
	// adminPause is between two tries of a request whose connection was lost.
	adminPause = 100 * time.Millisecond
)

// Admin is a client for the length of one command. Where Session keeps at it for years, this one gives up when its
// caller's context ends. Every method may be called from any goroutine; each tries again while connections come and go.
type Admin struct {
	client client
	stop   context.CancelFunc // of the look-ups
	wg     sync.WaitGroup     // look-ups, and requests whose caller has gone

	hosts *hosts

	mu      sync.Mutex        // the library's goroutines write what the caller reads
	reasons map[string]string // what became of the newest try, by address
}

// Node is what lies at a path.
type Node struct {
	Data    []byte
	Version int32 // number of changes of its data
	Created time.Time
	Owner   int64 // the session that an ephemeral node belongs to; 0 for a persistent one
}

// Any, as a version, is every version.
const Any int32 = -1

// MaxFlag is how much of a maintenance or failback node a daemon reads, in bytes. What a longer one says counts for nothing.
const MaxFlag = maxFlag

// ErrRefused is in the error of a request that ZooKeeper has refused for want of rights: it changed nothing.
var ErrRefused = errors.New("ZooKeeper's ACL refuses it")

// Dial opens a session with one of servers ("host:port"). What the error says is for the operator: which servers, what
// became of each, and what to look at. Close ends the session.
func Dial(ctx context.Context, servers []string) (*Admin, error) {
	quiet := logrus.New()
	quiet.SetOutput(io.Discard) // what goes wrong is in the error
	log := logrus.NewEntry(quiet)
	h, err := newHosts(servers, log)
	if err != nil {
		return nil, err
	}
	a := &Admin{hosts: h, reasons: make(map[string]string)}
	up := make(chan struct{}, 1) // one slot: that there was a session at all
	push := func(in Input) {
		if _, ok := in.(SessionUp); ok {
			select {
			case up <- struct{}{}:
			default:
			}
		}
	}
	lookups, stop := context.WithCancel(context.Background())
	a.stop = stop
	a.wg.Go(func() { h.run(lookups) })
	a.client, err = connect(h, adminSession, 1, push, a.tried, log)
	if err != nil {
		a.stop()
		return nil, fmt.Errorf("make a ZooKeeper client: %w", err)
	}
	select {
	case <-up:
	case <-ctx.Done():
		err := a.outOfReach(ctx)
		a.Close()
		return nil, err
	}
	// The server may lag behind the one that the command before spoke to.
	if _, err := ask(ctx, a, func() (string, error) { return a.client.Sync("/") }); err != nil {
		a.Close()
		return nil, err
	}
	return a, nil
}

// tried notes how a try to reach a server went.
func (a *Admin) tried(address string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.reasons) > maxTried {
		clear(a.reasons)
	}
	switch {
	case errors.Is(err, errNotResolved), errors.Is(err, errClosed): // outOfReach says the former
	case err != nil:
		a.reasons[address] = err.Error()
	default:
		a.reasons[address] = "takes connections but does not answer: it is frozen, has no quorum, or is no ZooKeeper"
	}
}

// outOfReach is the error of a request that got no answer before the context's end.
func (a *Admin) outOfReach(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return context.Cause(ctx)
	}
	all := a.hosts.unresolved()
	for i, name := range all {
		all[i] = name + ": the name is not resolved"
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range slices.Sorted(maps.Keys(a.reasons)) {
		all = append(all, fmt.Sprintf("%s: %s", s, a.reasons[s]))
	}
	return fmt.Errorf("ZooKeeper is out of reach (%s); remedy: check the list of servers, that they run, and the network between",
		strings.Join(all, "; "))
}

// Close ends the session, within stopWithin where the server does not answer.
func (a *Admin) Close() {
	a.stop()
	ended := make(chan struct{})
	go func() {
		a.client.Close()
		a.wg.Wait()
		close(ended)
	}()
	timer := time.NewTimer(stopWithin)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C: // the process ends soon
	}
}

// ask sends a request until it is answered, or ctx ends. It must be one that may be sent twice.
func ask[T any](ctx context.Context, a *Admin, request func() (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	for {
		got := make(chan answer, 1)
		a.wg.Go(func() { // outlives us if ctx ends; the closed client fails it
			v, err := request()
			got <- answer{v, err}
		})
		var none T
		select {
		case ans := <-got:
			if !errors.Is(ans.err, zk.ErrConnectionClosed) && !errors.Is(ans.err, zk.ErrSessionExpired) && !errors.Is(ans.err, zk.ErrSessionMoved) {
				return ans.value, ans.err
			}
		case <-ctx.Done():
			return none, a.outOfReach(ctx)
		}
		pause := time.NewTimer(adminPause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return none, a.outOfReach(ctx)
		}
	}
}

// explain wraps what a request on a path came to.
func explain(op, path string, err error) error {
	if errors.Is(err, zk.ErrNoAuth) {
		return fmt.Errorf("%s %q: %w; remedy: give everybody the right to it, or ask whoever set the ACL: %w", op, path, ErrRefused, err)
	}
	return fmt.Errorf("%s %q: %w", op, path, err)
}

// Create makes a persistent node, and those above it that are missing. It returns false where the node exists; that may
// be by this very call, if its first answer was lost.
func (a *Admin) Create(ctx context.Context, at string, data []byte) (bool, error) {
	_, err := ask(ctx, a, func() (string, error) { return a.client.Create(at, data, 0, zk.WorldACL(zk.PermAll)) })
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, zk.ErrNodeExists):
		return false, nil
	case errors.Is(err, zk.ErrNoNode) && path.Dir(at) != "/":
		if _, err := a.Create(ctx, path.Dir(at), nil); err != nil {
			return false, err
		}
		return a.Create(ctx, at, data)
	}
	return false, explain("create", at, err)
}

// Set replaces the data of a node of that version. It returns false where there is none.
func (a *Admin) Set(ctx context.Context, at string, data []byte, version int32) (bool, error) {
	_, err := ask(ctx, a, func() (*zk.Stat, error) { return a.client.Set(at, data, version) })
	return a.changed("write", at, err)
}

// Delete deletes a node of that version. It returns false where there is none; that may be by this very call, if its first
// answer was lost.
func (a *Admin) Delete(ctx context.Context, at string, version int32) (bool, error) {
	_, err := ask(ctx, a, func() (bool, error) { return true, a.client.Delete(at, version) })
	return a.changed("delete", at, err)
}

func (a *Admin) changed(op, at string, err error) (bool, error) {
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, zk.ErrNoNode), errors.Is(err, zk.ErrBadVersion):
		return false, nil
	}
	return false, explain(op, at, err)
}

// Get reads a node. It returns false where there is none.
func (a *Admin) Get(ctx context.Context, at string) (Node, bool, error) {
	n, err := ask(ctx, a, func() (Node, error) {
		data, st, err := a.client.Get(at)
		if err != nil {
			return Node{}, err
		}
		return Node{Data: data, Version: st.Version, Created: time.UnixMilli(st.Ctime), Owner: st.EphemeralOwner}, nil
	})
	switch {
	case err == nil:
		return n, true, nil
	case errors.Is(err, zk.ErrNoNode):
		return Node{}, false, nil
	}
	return Node{}, false, explain("read", at, err)
}

// Children reads the names in a directory, sorted. One that is missing has none.
func (a *Admin) Children(ctx context.Context, dir string) ([]string, error) {
	names, err := ask(ctx, a, func() ([]string, error) {
		names, _, err := a.client.Children(dir)
		return names, err
	})
	switch {
	case err == nil:
		slices.Sort(names)
		return names, nil
	case errors.Is(err, zk.ErrNoNode):
		return nil, nil
	}
	return nil, explain("list", dir, err)
}

// Statuses reads the status records in a directory, by node. Those that do not decode are left out.
func (a *Admin) Statuses(ctx context.Context, dir string) (map[string]Status, error) {
	names, err := a.Children(ctx, dir)
	if err != nil {
		return nil, err
	}
	records := make(map[string]Status)
	for _, name := range names[:min(len(names), maxPeers)] {
		n, found, err := a.Get(ctx, dir+"/"+name)
		if err != nil {
			return nil, err
		}
		if st, err := DecodeStatus(name, n.Data); found && err == nil {
			records[name] = st
		}
	}
	return records, nil
}
