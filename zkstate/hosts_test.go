package zkstate

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestParseServer(t *testing.T) {
	for element, want := range map[string]string{
		"zk1":            "zk1 2181",
		"zk1.lan:12181":  "zk1.lan 12181",
		"127.0.0.1":      "127.0.0.1 2181 127.0.0.1:2181",
		"127.0.0.1:2182": "127.0.0.1 2182 127.0.0.1:2182",
		"::1":            "::1 2181 [::1]:2181",
		"[::1]:2182":     "::1 2182 [::1]:2182",
	} {
		s, err := parseServer(element)
		got := s.host + " " + s.port
		for _, a := range s.addrs {
			got += " " + a
		}
		if err != nil || got != want {
			t.Errorf("%q: %s, %v, want %s", element, got, err, want)
		}
	}
}

// TestHostsSurviveBadDNS starts before DNS answers, and keeps the last good answer when it stops to.
func TestHostsSurviveBadDNS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, err := newHosts([]string{"zk"}, quiet())
		if err != nil {
			t.Fatal(err)
		}
		type reply struct {
			addrs []string
			err   error
		}
		var dns atomic.Pointer[reply]
		dns.Store(&reply{err: errors.New("no such host")})
		h.lookup = func(context.Context, string) ([]string, error) { r := dns.Load(); return r.addrs, r.err }
		p := &provider{hosts: h}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			h.run(ctx)
			close(done)
		}()
		turns := func(want ...string) {
			t.Helper()
			var got []string
			for range len(want) {
				addr, round := p.Next()
				if round {
					t.Error("a round has ended")
				}
				got = append(got, addr)
			}
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("servers %v, want %v", got, want)
			}
		}
		sleep(10 * time.Second)
		turns("zk:2181", "zk:2181")
		if p.Len() != 1 {
			t.Errorf("Len is %d", p.Len())
		}
		dns.Store(&reply{addrs: []string{"127.0.0.2", "127.0.0.1", "127.0.0.1", "nonsense"}})
		sleep(lookupRetry)
		turns("127.0.0.1:2181", "127.0.0.1:2181", "127.0.0.2:2181", "127.0.0.2:2181")
		dns.Store(&reply{err: errors.New("timeout")})
		sleep(lookupAgain)
		turns("127.0.0.1:2181", "127.0.0.2:2181")
		dns.Store(&reply{addrs: []string{"nonsense"}})
		sleep(lookupRetry)
		turns("127.0.0.1:2181", "127.0.0.2:2181")
		dns.Store(&reply{addrs: []string{"127.0.0.3"}})
		sleep(lookupRetry)
		turns("127.0.0.3:2181", "127.0.0.3:2181")
		p.closed.Store(true)
		if _, round := p.Next(); !round {
			t.Error("the library's loop would never end")
		}
		cancel()
		<-done
	})
}
