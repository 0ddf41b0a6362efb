// Package hooks runs the operator's commands when something changes: a verdict, a check, a neighbor. It is an Observer of the loop.
//
// Nothing waits for a hook, and no route depends on one. At most Parallel of them run at a time. Of one thing (a VIP, a neighbor,
// a service's check) a hook hears in order, and only one run of it is under way. What changes meanwhile waits, and of several changes
// of one thing only the newest state is told, with the state before the first of them as EXAZK_FROM and their number as EXAZK_MERGED. So
// what waits is bounded by what is configured, however slow a hook is.
//
// A run has the environment of a check (see package health) and, of the change:
//
//	EXAZK_WHAT     verdict, health, maintenance, neighbor, zookeeper, drift or process
//	EXAZK_NODE     this node
//	EXAZK_SERVICE  the service; empty for what is of the whole node
//	EXAZK_VIP      the VIP, of a verdict and a drift; a prefix as its claim is named
//	EXAZK_SUBJECT  the neighbor, or the check that decided
//	EXAZK_FROM     what it was, EXAZK_TO what it is: announce, withdraw, hold; healthy, unhealthy, unknown; up, down; … They are equal
//	               where a verdict has another reason or role only
//	EXAZK_ROLE     of a verdict: authoritative or backup
//	EXAZK_REASON   of a verdict: its reason; of a drift: what is wanted, announce or withdraw
//	EXAZK_DETAIL   for people: printable, 300 bytes at most; what a check printed may be in it, so quote it
//	EXAZK_AT       when, RFC 3339, UTC
//	EXAZK_MERGED   how many changes this run is told of at once, 1 as a rule
//
// Its stdin is /dev/null. Its output is read, and the last line of it is in the log where it failed: it never reaches ExaBGP, to which the
// daemon's own stdout belongs. After Hook.Timeout its whole process group is killed, as it is when exazk ends.
package hooks

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/sirupsen/logrus"

	"exazk/daemon"
	"exazk/health"
)

// Parallel is how many hooks run at a time: a node with many VIPs that fails must not start a process for each at once.
const Parallel = 4

// A hook that fails is in the log at most reportMost times in reportWithin: with a hundred VIPs, one that is missing fails a hundred
// times at once. The others are counted, and the next line has their number as unreported.
const (
	reportMost   = 5
	reportWithin = 10 * time.Second
)

// maxDetail bounds EXAZK_DETAIL, in bytes.
const maxDetail = 300

// Hooks is a set of hooks and what they are still to be told.
type Hooks struct {
	node  string
	hooks []daemon.Hook
	log   *logrus.Entry

	mu      sync.Mutex
	waiting []job         // in the order of their first change, each thing once
	busy    map[key]bool  // things of which a run is under way
	ready   chan struct{} // holds a token while somebody should look at waiting
	failed  []failures    // by hook
}

// failures are those of one hook.
type failures struct {
	since      time.Time // when reportWithin began
	reported   int       // since then
	unreported int       // since the last one that was
}

// key is one thing that a hook is told of, in order.
type key struct {
	hook                  int
	what                  daemon.What
	service, vip, subject string
}

// job is a change to be told.
type job struct {
	key
	change daemon.Transition
	merged int
}

// New returns Hooks that run nothing before Run. The hooks are valid.
func New(node string, hooks []daemon.Hook, log *logrus.Entry) *Hooks {
	return &Hooks{node: node, hooks: hooks, log: log, busy: map[key]bool{}, ready: make(chan struct{}, 1), failed: make([]failures, len(hooks))}
}

// Observe notes what hooks are to be told. It never waits for one.
func (h *Hooks) Observe(s daemon.Snapshot) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, t := range s.Changes {
		for i := range h.hooks {
			if slices.Contains(h.hooks[i].On, t.What) {
				h.add(keyOf(i, t), t)
			}
		}
	}
	h.wake()
}

func keyOf(hook int, t daemon.Transition) key {
	k := key{hook: hook, what: t.What, service: t.Service, vip: t.VIP}
	switch t.What {
	case daemon.WhatNeighbor:
		k.subject = t.Subject
	case daemon.WhatProcess: // no states of one thing
		k.subject = t.To
	}
	return k
}

// add merges a change into one of the same thing that waits already.
func (h *Hooks) add(k key, t daemon.Transition) {
	if i := slices.IndexFunc(h.waiting, func(j job) bool { return j.key == k }); i >= 0 {
		j := &h.waiting[i]
		t.From = j.change.From
		j.change, j.merged = t, j.merged+1
		return
	}
	h.waiting = append(h.waiting, job{k, t, 1})
}

// wake has a worker look at what waits. The lock is held.
func (h *Hooks) wake() {
	select {
	case h.ready <- struct{}{}:
	default: // somebody will look
	}
}

// next takes the first change of a thing that no run is under way for.
func (h *Hooks) next() (job, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := slices.IndexFunc(h.waiting, func(j job) bool { return !h.busy[j.key] })
	if i < 0 {
		return job{}, false
	}
	j := h.waiting[i]
	h.waiting = slices.Delete(h.waiting, i, i+1)
	h.busy[j.key] = true
	if len(h.waiting) > 0 {
		h.wake() // another worker
	}
	return j, true
}

func (h *Hooks) done(j job) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.busy, j.key)
	h.wake()
}

// Run runs hooks until ctx is done, and leaves none behind. What was not told by then is only counted.
func (h *Hooks) Run(ctx context.Context) error {
	var workers sync.WaitGroup
	for range Parallel {
		workers.Go(func() { h.work(ctx) })
	}
	workers.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	if n := len(h.waiting); n > 0 {
		h.log.WithField("changes", n).Warn("stopping, and hooks were not run for all changes")
	}
	return context.Cause(ctx)
}

// work is one worker. It has a runner of its own for each hook: one that cannot be killed keeps only this worker from it.
func (h *Hooks) work(ctx context.Context) {
	runners := make([]*health.Runner, len(h.hooks))
	for i := range h.hooks {
		runners[i] = h.hooks[i].Run().Runner(h.hooks[i].Timeout)
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.ready:
		}
		for ctx.Err() == nil {
			j, found := h.next()
			if !found {
				break
			}
			h.tell(ctx, j, runners[j.hook])
			h.done(j)
		}
	}
}

// tell runs a hook.
func (h *Hooks) tell(ctx context.Context, j job, runner *health.Runner) {
	began := time.Now()
	r := runner.Run(ctx, h.environ(j))
	log := h.log.WithFields(r.Fields()).WithFields(logrus.Fields{
		"hook": h.hooks[j.hook].Run().String(), "what": string(j.what), "service": j.service, "vip": j.vip, "to": j.change.To,
		"elapsed_ms": time.Since(began).Milliseconds(),
	})
	switch {
	case ctx.Err() != nil:
		log.Warn("hook killed: exazk stops")
	case r.OK:
		log.Debug("hook ran")
	default:
		if due, unreported := h.report(j.hook, time.Now()); due {
			log.WithField("unreported", unreported).Warn("hook failed")
		}
	}
}

// report notes a failure of a hook, and says whether it is to be logged and how many were not since the last one that was.
func (h *Hooks) report(hook int, now time.Time) (due bool, unreported int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := &h.failed[hook]
	if now.Sub(f.since) >= reportWithin {
		f.since, f.reported = now, 0
	}
	if f.reported == reportMost {
		f.unreported++
		return false, 0
	}
	f.reported++
	unreported, f.unreported = f.unreported, 0
	return true, unreported
}

func (h *Hooks) environ(j job) []string {
	t := j.change
	env := []string{fmt.Sprintf("EXAZK_MERGED=%d", j.merged), "EXAZK_AT=" + t.At.UTC().Format(time.RFC3339Nano)}
	for _, v := range [][2]string{
		{"WHAT", string(t.What)}, {"NODE", h.node}, {"SERVICE", t.Service}, {"VIP", t.VIP}, {"SUBJECT", t.Subject}, {"FROM", t.From}, {"TO", t.To},
		{"ROLE", t.Role}, {"REASON", t.Reason}, {"DETAIL", t.Detail},
	} {
		env = append(env, "EXAZK_"+v[0]+"="+printable(v[1]))
	}
	return env
}

// printable is text that others may have chosen, fit for an environment: a zero byte would keep the command from being run.
func printable(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "\ufffd"))
	if len(text) > maxDetail {
		text = strings.ToValidUTF8(text[:maxDetail], "")
	}
	return text
}
