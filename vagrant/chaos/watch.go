package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"exazk/vagrant/lab"
)

// routerSight is one look at all routers.
type routerSight struct {
	at, took time.Duration
	leaf     [3]uint8 // bit v: the ToR has VIP v from its load balancer
	up       [3]bool  // the ToR's session with its load balancer is established
	spine    [3]uint8 // bit n: r0 has that VIP by the ToR of node n
	strange  []string // routes that nobody should have
}

// zkSight is one look at ZooKeeper, when a server answered.
type zkSight struct {
	at, took          time.Duration
	claimed, recorded uint8 // bit i: the claim of VIP i, the status record of node i
}

// watcher looks at routers and ZooKeeper throughout a round, and notes when this process itself did not run.
type watcher struct {
	lab   *lab.Lab
	story *story
	stop  context.CancelFunc
	wait  sync.WaitGroup

	mu      sync.Mutex
	routers []routerSight
	zk      []zkSight
	lags    []span
}

const (
	lookEvery = 100 * time.Millisecond
	// lagging is how late this process may be before nothing is judged by what it saw: other processes may have been as late.
	// Less than limping is nothing.
	lagging = 300 * time.Millisecond
	limping = 50 * time.Millisecond
)

func watch(ctx context.Context, l *lab.Lab, s *story) *watcher {
	ctx, stop := context.WithCancel(ctx)
	w := &watcher{lab: l, story: s, stop: stop}
	w.wait.Go(func() { every(ctx, lookEvery, func() { w.lookAtRouters() }) })
	w.wait.Go(func() { every(ctx, lookEvery, func() { w.lookAtZooKeeper(ctx) }) })
	w.wait.Go(func() { w.noticeLags(ctx) })
	return w
}

// end stops looking and waits for that.
func (w *watcher) end() {
	w.stop()
	w.wait.Wait()
}

func every(ctx context.Context, d time.Duration, f func()) {
	tick := time.NewTicker(d)
	defer tick.Stop()
	for {
		f()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (w *watcher) noticeLags(ctx context.Context) {
	const step = 20 * time.Millisecond
	last := w.story.now()
	every(ctx, step, func() {
		now := w.story.now()
		late := now - last - step
		if late > limping {
			w.mu.Lock()
			w.lags = append(w.lags, span{last + step, now})
			w.mu.Unlock()
		}
		if late > lagging {
			w.story.say("this process did not run for %v", late.Round(time.Millisecond))
		}
		last = now
	})
}

func (w *watcher) lookAtRouters() {
	s, err := w.seeRouters()
	if err != nil {
		w.story.say("a router does not answer: %v", err)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.routers); n == 0 || w.routers[n-1].leaf != s.leaf || w.routers[n-1].up != s.up {
		w.story.say("routes: %v", s)
	}
	w.routers = append(w.routers, s)
}

func (w *watcher) seeRouters() (routerSight, error) {
	s := routerSight{at: w.story.now()}
	for i, lb := range lab.Balancers() {
		table, err := w.lab.Routes(lab.Leaf(lb))
		if err != nil {
			return s, err
		}
		if s.up[i], err = w.lab.Established(lab.Leaf(lb), lb); err != nil {
			return s, err
		}
		s.leaf[i] = s.note(table, lab.Leaf(lb), lb)
	}
	table, err := w.lab.Routes("r0")
	if err != nil {
		return s, err
	}
	for i, lb := range lab.Balancers() {
		vips := s.note(table, "r0", lab.Leaf(lb))
		for v := range lab.VIPs() {
			s.spine[v] |= (vips >> v & 1) << i
		}
	}
	s.took = w.story.now() - s.at
	return s, nil
}

// note returns which VIPs a router has from a neighbor, and keeps what is none.
func (s *routerSight) note(t lab.Table, router, via string) (vips uint8) {
	for _, r := range t {
		v := slices.IndexFunc(lab.VIPs(), func(a netip.Addr) bool { return r.Prefix == netip.PrefixFrom(a, a.BitLen()) })
		switch {
		case r.Via != via:
		case v >= 0:
			vips |= 1 << v
		case strings.HasPrefix(via, "lb") || r.Prefix.IsSingleIP():
			s.strange = append(s.strange, fmt.Sprintf("%s has %v by %s", router, r.Prefix, via))
		}
	}
	return vips
}

// String says who announces what to its ToR.
func (s routerSight) String() string {
	var words []string
	for i, lb := range lab.Balancers() {
		if !s.up[i] {
			words = append(words, lb+" has no session")
			continue
		}
		words = append(words, lb+" announces "+names(s.leaf[i]))
	}
	return strings.Join(words, ", ")
}

// names writes a mask of VIPs or nodes.
func names(mask uint8) string {
	var list []string
	for i := range 3 {
		if mask>>i&1 == 1 {
			list = append(list, fmt.Sprintf(".%d", i+1))
		}
	}
	if len(list) == 0 {
		return "nothing"
	}
	return strings.Join(list, " ")
}

func (w *watcher) lookAtZooKeeper(ctx context.Context) {
	s, err := seeZooKeeper(ctx, w.lab, w.story)
	if err != nil {
		return // often so, and who began that has told
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.zk); n == 0 || w.zk[n-1].claimed != s.claimed || w.zk[n-1].recorded != s.recorded {
		w.story.say("ZooKeeper: claims of %s, status records of %s", names(s.claimed), names(s.recorded))
	}
	w.zk = append(w.zk, s)
}

// seeZooKeeper asks the servers one after the other until one answers.
func seeZooKeeper(ctx context.Context, l *lab.Lab, st *story) (zkSight, error) {
	var errs []error
	for i := range l.ZKServers() {
		s := zkSight{at: st.now()}
		dump, err := ask(ctx, l, i, "dump")
		if err == nil {
			if s.claimed, s.recorded, err = ephemerals(dump); err == nil {
				s.took = st.now() - s.at
				return s, nil
			}
		}
		errs = append(errs, err)
	}
	return zkSight{}, errors.Join(errs...)
}

// last returns the newest look at the routers.
func (w *watcher) last() (routerSight, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.routers) == 0 {
		return routerSight{}, false
	}
	return w.routers[len(w.routers)-1], true
}
