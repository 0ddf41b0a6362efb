package zkstate

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

const (
	// maxChanges is how many entries a history has, and maxHistory how many bytes: half of what a node in ZooKeeper may have
	// here at most, so that whoever reads has room. The oldest go first.
	maxChanges  = 64
	maxHistory  = 32 << 10
	maxTogether = 256 // VIPs in one entry, so that some fit whatever a node has
	// historyGap is the least time between two writings: what changes more often is written together.
	historyGap = time.Second
	// historyWithin bounds one try to write, historyLast the one at the end of the process.
	historyWithin = 5 * time.Second
	historyLast   = 300 * time.Millisecond
	historyPause  = 10 * time.Second // the longest between two tries
)

// Change is one transition of a node, as its history has it.
type Change struct {
	At      time.Time `json:"at"` // by the node's wall clock
	Node    string    `json:"node,omitempty"`
	What    string    `json:"what"` // verdict | health | maintenance | neighbor | zookeeper | process | drift
	Service string    `json:"service,omitempty"`
	VIP     string    `json:"vip,omitempty"`
	Subject string    `json:"subject,omitempty"` // the neighbor, the check
	From    string    `json:"from,omitempty"`
	To      string    `json:"to"`
	Role    string    `json:"role,omitempty"`
	Reason  string    `json:"reason,omitempty"`
	Detail  string    `json:"detail,omitempty"`
}

// Equal says whether two changes are the same one.
func (c Change) Equal(o Change) bool {
	same := c.At.Equal(o.At)
	c.At, o.At = time.Time{}, time.Time{}
	return same && c == o
}

// chapter is what is kept of a Change, or of several that differ in their VIP only: what happens to a node happens to many
// VIPs at once, and would push everything else out.
type chapter struct {
	Change
	VIPs []string `json:"vips,omitempty"` // where there are several
}

func (c chapter) equal(o chapter) bool {
	return c.Change.Equal(o.Change) && slices.Equal(c.VIPs, o.VIPs)
}

// history is the JSON of a history's node in ZooKeeper.
type history struct {
	Node    string    `json:"node"`
	Changes []chapter `json:"changes"` // oldest first
}

// DecodeHistory reads the history of a node, oldest first, one Change for each VIP.
func DecodeHistory(node string, data []byte) ([]Change, error) {
	h, err := decodeHistory(node, data)
	if err != nil {
		return nil, err
	}
	var all []Change
	for _, c := range h.Changes {
		c.Node = node
		for _, vip := range c.VIPs {
			c.VIP = vip
			all = append(all, c.Change)
		}
		if len(c.VIPs) == 0 {
			all = append(all, c.Change)
		}
	}
	return all, nil
}

func decodeHistory(node string, data []byte) (h history, err error) {
	switch {
	case len(data) > maxRecord:
		return h, errors.New("longer than a history can be")
	case json.Unmarshal(data, &h) != nil:
		return history{}, errors.New("no JSON of a history")
	case h.Node != node:
		return history{}, errMisfit
	}
	for i := range h.Changes {
		h.Changes[i].At = Instant(h.Changes[i].At)
	}
	return h, nil
}

// addChange appends a change to others, in the last of them if that is the same but for its VIP.
func addChange(all []chapter, c Change) []chapter {
	vip := c.VIP
	c.VIP = ""
	for i := len(all) - 1; i >= 0 && vip != "" && all[i].At.Equal(c.At); i-- {
		same := all[i].Change
		same.VIP = ""
		switch {
		case all[i].VIP == "" && len(all[i].VIPs) == 0, len(all[i].VIPs) >= maxTogether, !same.Equal(c):
			continue
		case len(all[i].VIPs) == 0:
			all[i].VIPs = []string{all[i].VIP}
		}
		all[i].VIP, all[i].VIPs = "", append(all[i].VIPs, vip)
		return all
	}
	c.VIP = vip
	return append(all, chapter{Change: c})
}

// encodeHistory makes the JSON of a history, of the newest that fit.
func encodeHistory(h history) (data []byte, kept []chapter) {
	h.Changes = h.Changes[max(0, len(h.Changes)-maxChanges):]
	for {
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false) // people read it in ZooKeeper, too
		if err := enc.Encode(h); err != nil {
			panic("bug: " + err.Error())
		}
		if b.Len() <= maxHistory || len(h.Changes) == 0 {
			return bytes.TrimSuffix(b.Bytes(), []byte("\n")), h.Changes
		}
		h.Changes = h.Changes[(len(h.Changes)+3)/4:]
	}
}

// History keeps the last changes of this node in persistent nodes of ZooKeeper, one for each service, so that they outlive the
// process and the host. It has a session of its own: what becomes of it touches no claim, and it can still write why ExaBGP has
// gone while the other session is closed at once. Nothing waits for it, nothing is decided by it, and what cannot be written
// is tried again, the newest maxChanges of it.
type History struct {
	servers []string
	node    string
	log     *logrus.Entry
	signal  chan struct{} // one slot: there is something to write

	mu   sync.Mutex       // a second owner: Add is called by the loop and must never wait for a request
	past map[string]*past // by service
}

// past is the history of one service.
type past struct {
	path    string
	fresh   []chapter // not written yet, as far as is known
	read    bool      // known and version are of what lies in ZooKeeper
	known   []chapter
	version int32 // -1: there is none
}

// NewHistory makes a History of a node at a path for each service. It connects to nothing before Run.
func NewHistory(servers []string, node string, paths map[string]string, log *logrus.Entry) *History {
	h := &History{servers: servers, node: node, log: log, signal: make(chan struct{}, 1), past: map[string]*past{}}
	h.Reconfigure(paths)
	return h
}

// Reconfigure replaces the services and their paths. It may be called from any goroutine and returns at once.
func (h *History) Reconfigure(paths map[string]string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for service := range h.past {
		if _, there := paths[service]; !there {
			delete(h.past, service)
		}
	}
	for service, at := range paths {
		if p := h.past[service]; p == nil || p.path != at {
			h.past[service] = &past{path: at, version: -1}
		}
	}
}

// Add puts changes at the end of the history. One that names no service is of all. It may be called from any goroutine and
// returns at once.
func (h *History) Add(changes ...Change) {
	h.mu.Lock()
	for _, c := range changes {
		c.At, c.Node = c.At.UTC().Truncate(time.Millisecond), ""
		for service, p := range h.past {
			if c.Service != "" && c.Service != service {
				continue
			}
			p.fresh = addChange(p.fresh, c)
			p.fresh = p.fresh[max(0, len(p.fresh)-maxChanges):]
		}
	}
	h.mu.Unlock()
	select {
	case h.signal <- struct{}{}:
	default: // rung already
	}
}

// Run writes until ctx is done, then what is left, within a moment. It returns nil.
func (h *History) Run(ctx context.Context) error {
	w := &historian{History: h, denied: map[string]bool{}}
	defer w.close()
	pause := historyGap
	for {
		select {
		case <-ctx.Done():
			return w.last()
		case <-h.signal:
		}
		if err := w.write(ctx, historyWithin); err == nil {
			pause = historyGap
		} else if ctx.Err() == nil {
			h.log.WithError(err).Debug("history is not written, it is tried again")
			if !errors.Is(err, ErrRefused) { // an ACL refuses another client, too
				w.close() // one that is stuck is made anew
			}
			pause = min(2*pause, historyPause)
			h.Add() // rings
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// historian is one life of Run.
type historian struct {
	*History
	zk     *Admin          // nil while there is no session
	denied map[string]bool // paths that an ACL refuses, and that was logged
}

func (w *historian) close() {
	if w.zk != nil {
		w.zk.Close()
		w.zk = nil
	}
}

// last writes what is left at the end of the process. What cannot be written by then is lost.
func (w *historian) last() error {
	if err := w.write(context.Background(), historyLast); err != nil {
		w.log.WithError(err).Debug("end of the history is not written")
	}
	return nil
}

// write brings every history up to date. The error is ErrRefused only where nothing else went wrong.
func (w *historian) write(ctx context.Context, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	var failed, refused error
	for _, p := range w.due() {
		if w.zk == nil {
			var err error
			if w.zk, err = Dial(ctx, w.servers); err != nil {
				return err
			}
		}
		switch err := w.writeOne(ctx, p); {
		case errors.Is(err, ErrRefused):
			refused = err
		case err != nil:
			failed = errors.Join(failed, err)
		}
	}
	return cmp.Or(failed, refused)
}

// due is what has something to be written.
func (w *historian) due() []*past {
	w.mu.Lock()
	defer w.mu.Unlock()
	var due []*past
	for _, p := range w.past {
		if len(p.fresh) > 0 {
			due = append(due, p)
		}
	}
	return due
}

// writeOne appends to what lies in ZooKeeper what is not there yet. Only one writer is meant to be there, but the process before
// this one may not have ended.
func (w *historian) writeOne(ctx context.Context, p *past) error {
	if !p.read { // known and version are this goroutine's alone
		if err := w.readOne(ctx, p); err != nil {
			return w.refused(p.path, err)
		}
	}
	w.mu.Lock()
	fresh := slices.Clone(p.fresh)
	w.mu.Unlock()
	all := slices.Clone(p.known)
	for _, c := range fresh {
		if !slices.ContainsFunc(p.known, c.equal) { // the answer to an earlier writing was lost
			all = append(all, c)
		}
	}
	data, kept := encodeHistory(history{Node: w.node, Changes: all})
	written, err := w.put(ctx, p, data)
	if err != nil || !written {
		p.read = false
		if err == nil {
			err = fmt.Errorf("write %q: somebody else has written to it", p.path)
		}
		return w.refused(p.path, err)
	}
	p.known, p.version = kept, p.version+1
	delete(w.denied, p.path)
	w.mu.Lock()
	p.fresh = slices.DeleteFunc(p.fresh, func(c chapter) bool { return slices.ContainsFunc(fresh, c.equal) })
	w.mu.Unlock()
	return nil
}

func (w *historian) put(ctx context.Context, p *past, data []byte) (bool, error) {
	if p.version < 0 {
		return w.zk.Create(ctx, p.path, data)
	}
	return w.zk.Set(ctx, p.path, data, p.version)
}

// readOne reads what lies in ZooKeeper. What is no history of this node is replaced.
func (w *historian) readOne(ctx context.Context, p *past) error {
	n, found, err := w.zk.Get(ctx, p.path)
	if err != nil {
		return err
	}
	p.read, p.known, p.version = true, nil, -1
	if !found {
		return nil
	}
	p.version = n.Version
	old, err := decodeHistory(w.node, n.Data)
	if err != nil && len(n.Data) > 0 {
		w.log.WithError(err).WithField("path", p.path).Warn("what lies where the history should be is replaced")
	}
	p.known = old.Changes
	return nil
}

// refused logs, once until it works again, that an ACL is in the way.
func (w *historian) refused(at string, err error) error {
	if errors.Is(err, ErrRefused) && !w.denied[at] {
		w.denied[at] = true
		w.log.WithField("path", at).WithField("reason", strings.TrimSpace(err.Error())).Warn("history is not written")
	}
	return err
}
