package web

import (
	"net"
	"net/http"
	"slices"
	"sync"
)

// crowd keeps room for one connection more: where there is none, it closes the one that has asked for nothing for longest.
// Otherwise whoever opens many and says nothing keeps Prometheus out.
type crowd struct {
	room int

	mu      sync.Mutex
	all     int
	waiting []net.Conn // without a request, the one that is so for longest first
}

// changed is an http.Server's ConnState.
func (c *crowd) changed(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = slices.DeleteFunc(c.waiting, func(other net.Conn) bool { return other == conn })
	switch state {
	case http.StateNew:
		c.all++
		c.makeRoom()
		c.waiting = append(c.waiting, conn)
	case http.StateIdle:
		c.waiting = append(c.waiting, conn)
		c.makeRoom() // it may be the only one that asks for nothing
	case http.StateClosed, http.StateHijacked:
		c.all--
	}
}

func (c *crowd) makeRoom() {
	if c.all >= c.room && len(c.waiting) > 0 {
		_ = c.waiting[0].Close() // the server sees it, and says that it is closed
		c.waiting = c.waiting[1:]
	}
}
