package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"exazk/exabgp"
	"exazk/health"
	"exazk/zkstate"
)

// watcher keeps what it is told, and reads all of it in another goroutine, so that the race detector sees who else writes there.
type watcher struct {
	told chan Snapshot
	mu   sync.Mutex // as recorder's
	got  []Snapshot
}

func watch(ctx context.Context) *watcher {
	w := &watcher{told: make(chan Snapshot, 1000)}
	go func() {
		for {
			select {
			case s := <-w.told:
				if _, err := json.Marshal([]any{s.Want.Statuses, s.Why, s.Neighbors, s.Changes}); err != nil {
					panic(err)
				}
				for _, v := range s.Services {
					_ = fmt.Sprint(v.Claims, v.Peers, v.Health)
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return w
}

func (w *watcher) Observe(s Snapshot) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.got = append(w.got, s)
	w.told <- s
}

// since gives what was told since the last time it was asked.
func (w *watcher) since() []Snapshot {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	got := w.got
	w.got = nil
	return got
}

// words are the transitions since the last time it was asked, a line each.
func (w *watcher) words() []string {
	var lines []string
	for _, s := range w.since() {
		for _, t := range s.Changes {
			words := []string{string(t.What), t.Service, t.VIP, t.Subject, t.From + ">" + t.To, t.Role, t.Reason, t.Detail}
			lines = append(lines, strings.Join(slices.DeleteFunc(words, func(s string) bool { return s == "" || s == ">" }), " "))
		}
	}
	return lines
}

// TestObserverSeesTransitions goes through one of every kind, and checks what is told of each, causes before effects.
func TestObserverSeesTransitions(t *testing.T) {
	peer := exabgp.Neighbor{Peer: netip.MustParseAddr("172.16.1.6")}
	for _, c := range []struct {
		name string
		ev   Event
		want []string
	}{
		{"a check that fails", FromHealth{health.Changed{Service: "apex", State: health.Unhealthy, Check: "web", Result: health.Result{Output: "HTTP 503"}}}, []string{
			"health apex web healthy>unhealthy HTTP 503",
			"verdict apex 10.20.255.1 announce>withdraw authoritative unhealthy HTTP 503",
			"verdict apex 10.20.255.2 withdraw>withdraw backup unhealthy HTTP 503",
			"verdict apex 10.20.255.3 withdraw>withdraw backup unhealthy HTTP 503",
		}},
		{"a maintenance node", FromZooKeeper{zkstate.MaintenanceRead{Service: "apex", Present: true, Data: []byte(`{"reason":"disk","who":"ann"}`)}}, []string{
			"maintenance apex absent>present disk, by ann",
			"verdict apex 10.20.255.1 announce>announce authoritative draining",
			"verdict apex 10.20.255.2 withdraw>withdraw backup maintenance disk, by ann",
			"verdict apex 10.20.255.3 withdraw>withdraw backup maintenance disk, by ann",
		}},
		{"a session to a neighbor", FromExaBGP{exabgp.NeighborChanged{Neighbor: peer, State: exabgp.NeighborDown, Reason: "hold timer"}}, []string{
			"neighbor 172.16.1.6 up>down hold timer",
		}},
		{"a try to connect, which is none", FromExaBGP{exabgp.NeighborChanged{Neighbor: exabgp.Neighbor{Peer: netip.MustParseAddr("172.16.1.7")}, State: exabgp.NeighborConnected}}, nil},
		{"the session to ZooKeeper", FromZooKeeper{zkstate.SessionChanged{State: zkstate.Suspended}}, []string{"zookeeper connected>suspended"}},
		{"a claim that goes", FromZooKeeper{zkstate.ClaimsRead{Service: "apex", Claims: map[string]zkstate.Claim{"10.20.255.3": {Holder: zkstate.Foreign}}}}, []string{
			"verdict apex 10.20.255.2 withdraw>announce backup unclaimed",
		}},
		{"a stop", Stop{Signal: "terminated"}, []string{
			"process >stopping terminated",
			"verdict apex 10.20.255.1 announce>announce authoritative draining",
			"verdict apex 10.20.255.2 withdraw>withdraw backup stopping",
			"verdict apex 10.20.255.3 withdraw>withdraw backup stopping",
		}},
		{"a file that loses a VIP", reloadWithout(t, "10.20.255.2"), []string{
			"process >reloaded",
			"verdict apex 10.20.255.2 withdraw>withdraw backup removed",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				l, _, _ := newTestLoop(t)
				w := watch(ctx)
				l.ObserveWith(w)
				runSteady(ctx, l)
				time.Sleep(2 * time.Second)
				w.words()
				l.Post(ctx, c.ev)
				synctest.Wait()
				if got := w.words(); !slices.Equal(got, c.want) {
					t.Errorf("got\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(c.want, "\n\t"))
				}
			})
		})
	}
}

func reloadWithout(t *testing.T, vip string) Reload {
	cfg, err := ParseConfig("f.toml", strings.Replace(storyConfig, `"`+vip+`", `, "", 1))
	if err != nil {
		t.Fatal(err)
	}
	return Reload{cfg}
}

// TestObserverIsToldOnlyOfNews has a whole minute pass in which nothing happens.
func TestObserverIsToldOnlyOfNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		l, _, _ := newTestLoop(t)
		w := watch(ctx)
		l.ObserveWith(w)
		runSteady(ctx, l)
		time.Sleep(5 * time.Second)
		got := w.since()
		if len(got) == 0 {
			t.Fatal("told of nothing at the start")
		}
		last := got[len(got)-1]
		if s := last.Services[0]; len(last.Why) != 3 || s.Health.State != health.Healthy || len(s.Claims) != 2 || !s.ClaimsFresh || last.Heard != 1 || last.Announced != 1 || last.ZooKeeper != zkstate.Connected {
			t.Errorf("told of %+v", last)
		}
		time.Sleep(time.Minute)
		if got := w.since(); len(got) > 0 {
			t.Errorf("told of %+v", got)
		}
	})
}

type panicker struct{ told int }

func (p *panicker) Observe(Snapshot) { p.told++; panic("observer's fault") }

func TestObserverThatPanicsIsLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		l, _, log := newTestLoop(t)
		p, w := &panicker{}, watch(ctx)
		l.ObserveWith(p, w)
		runSteady(ctx, l)
		time.Sleep(time.Second)
		if got := w.since(); p.told != 1 || len(got) < 2 || !strings.Contains(log.String(), "observer panicked") {
			t.Errorf("told %d times, the next one %d times; log:\n%s", p.told, len(got), log)
		}
	})
}
