package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"path"
	"strings"
	"time"

	"github.com/go-zookeeper/zk"
)

// withZK calls f with a session of its own, from the first host of ZooKeeper. Of an ensemble it asks those servers only that
// serve: the client would wait for a frozen one for as long as all of this may take.
func (l *Lab) withZK(f func(*zk.Conn) error) error {
	dial := func(network, address string, timeout time.Duration) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		return l.Host(l.ZKServers()[0]).Dial(ctx, network, address)
	}
	var servers []string
	for i, addr := range zkAddrs(l.opt.ZKServers) {
		if l.opt.ZKServers > 1 {
			if _, err := l.zkMode(context.Background(), i+1); err != nil {
				continue
			}
		}
		servers = append(servers, addr.String())
	}
	if len(servers) == 0 {
		return errors.New("no server of zookeeper serves")
	}
	conn, events, err := zk.Connect(servers, 4*time.Second, zk.WithDialer(dial), zk.WithLogger(log.New(io.Discard, "", 0)))
	if err != nil {
		return err
	}
	defer conn.Close()
	limit := time.After(10 * time.Second)
	for {
		select {
		case ev := <-events:
			if ev.State == zk.StateHasSession {
				return f(conn)
			}
		case <-limit:
			return errors.New("no session with zookeeper within 10 s")
		}
	}
}

// ZKCreate makes a persistent node and its parents. A node that exists is fine and is left as it is.
func (l *Lab) ZKCreate(node string, data []byte) error {
	return l.withZK(func(conn *zk.Conn) error {
		names := strings.Split(strings.Trim(node, "/"), "/")
		for i := range names {
			at, content := "/"+path.Join(names[:i+1]...), []byte(nil)
			if i == len(names)-1 {
				content = data
			}
			if _, err := conn.Create(at, content, 0, zk.WorldACL(zk.PermAll)); err != nil && !errors.Is(err, zk.ErrNodeExists) {
				return fmt.Errorf("create %q: %w", at, err)
			}
		}
		return nil
	})
}

// ZKDelete deletes a node. One that does not exist is fine.
func (l *Lab) ZKDelete(node string) error {
	return l.withZK(func(conn *zk.Conn) error {
		if err := conn.Delete(node, -1); err != nil && !errors.Is(err, zk.ErrNoNode) {
			return fmt.Errorf("delete %q: %w", node, err)
		}
		return nil
	})
}

// ZKExists says whether a node exists.
func (l *Lab) ZKExists(node string) (exists bool, err error) {
	err = l.withZK(func(conn *zk.Conn) (err error) {
		if exists, _, err = conn.Exists(node); err != nil {
			return fmt.Errorf("look for %q: %w", node, err)
		}
		return nil
	})
	return exists && err == nil, err // the client returns true beside an error
}

// ZKGet returns the data of a node and its ephemeral owner, 0 for a persistent one.
func (l *Lab) ZKGet(node string) (data []byte, owner int64, err error) {
	err = l.withZK(func(conn *zk.Conn) error {
		d, stat, err := conn.Get(node)
		if err != nil {
			return fmt.Errorf("read %q: %w", node, err)
		}
		data, owner = d, stat.EphemeralOwner
		return nil
	})
	return data, owner, err
}

// ZKChildren lists the names below a node, in no order.
func (l *Lab) ZKChildren(node string) (names []string, err error) {
	err = l.withZK(func(conn *zk.Conn) (err error) {
		if names, _, err = conn.Children(node); err != nil {
			return fmt.Errorf("list %q: %w", node, err)
		}
		return nil
	})
	return names, err
}
