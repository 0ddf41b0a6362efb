package exa

import (
	"fmt"
	"strings"
	"time"
)

// honesty is a script. What comes of it is lines that the process heard ("< "), and what the script noted.
type honesty struct {
	name string
	with func(*Config)
	run  func(s *stage)
}

func short(c *Config) { c.HoldTime = 3 * time.Second }

func a(prefix byte, med int) string {
	return fmt.Sprintf("announce route 203.0.113.%d/32 next-hop self med %d\n", prefix, med)
}

func wd(prefix byte) string { return fmt.Sprintf("withdraw route 203.0.113.%d/32\n", prefix) }

var scripts = []*honesty{
	{
		name: "one burst",
		run: func(s *stage) {
			s.connect()
			s.ask(a(1, 1)+a(2, 2)+"bogus\nversion\n"+a(3, 3)+"bogus\n", 6)
			s.has("203.0.113.1/32 192.0.2.1 1, 203.0.113.2/32 192.0.2.1 2, 203.0.113.3/32 192.0.2.1 3")
		},
	},
	{
		name: "same again",
		run: func(s *stage) {
			s.connect()
			for range 3 {
				s.ask(a(1, 1), 1)
			}
			s.ask(a(1, 2), 1)
			s.settles()
			s.note("updates %d", s.updates())
			for range 3 {
				s.ask(wd(9), 1)
			}
			s.ask(wd(1), 1)
			s.ask(wd(1), 1)
			s.settles()
			s.note("updates %d", s.updates())
		},
	},
	{
		name: "faults",
		run: func(s *stage) {
			s.connect()
			for _, text := range []string{
				"203.0.113.2/32 next-hop se", "203.0.113.2/32 next-hop", "203.0.113.2/32", "203.0.113.2/3 next-hop self",
				"203.0.113.2/ next-hop self", "203.0.113.2/33 next-hop self", "203.0.113.2/32 next-hop self med",
				"203.0.113.2/32 next-hop self med x", "203.0.113.2/32 next-hop self med 1 community",
				"203.0.113.2/32 next-hop self med 1 community [", "203.0.113.2/32 next-hop self med 1 community [ 65001:1",
				"203.0.113.2/32 next-hop self med 1 community [ 65001 ]", "203.0.113.5/32 next-hop self med 1 foo 1",
				"203.0.113.2/32 med 1",
			} {
				s.ask("announce route "+text+"\n", 1)
			}
			for _, text := range []string{"announce route 203.0.113.300/32 next-hop self\n", "announce route 203.0.113\n",
				"announce route 203.0.113.2/32 next-hop self med 4294967296\n", "withdraw route 203.0.113\n"} {
				s.say(text)
				s.sleep(100 * time.Millisecond)
				s.note("nothing for %q", text)
			}
			s.ask("withdraw route 203.0.113.9/24\n", 1)
			s.ask("announce route\n", 1)
			s.ask("withdraw\n", 1)
			s.ask("#comment\n", 1)
			s.ask("# comment\n", 1)
			s.ask("\n", 1)
			s.ask("announce route 203.0.113.6/32 next-hop self med 1 med 2\n", 1)
			s.ask("announce  route\t203.0.113.7/32 next-hop self  med 7 community [65001:7]\r\n", 1)
			s.ask("announce route 203.0.113.8 next-hop 192.0.2.1 med 8\n", 1)
			s.settles()
			s.note("updates %d", s.updates())
		},
	},
	{
		name: "every attribute",
		run: func(s *stage) {
			s.connect()
			s.ask("announce route 203.0.113.1/32 next-hop 192.0.2.9 path-information 7 med 4294967295 local-preference 4294967295 "+
				"as-path [ 65001 65001 4200000001 ] community [ 65001:1 65535:0 ] large-community [ 65001:1:2 65001:1:3 ] "+
				"extended-community [ target:65001:5 origin:65001:6 0x0002fde900000007 ]\n", 1)
			s.has("203.0.113.1/32 192.0.2.9 4294967295 65001:1 65535:0 path 65001 65001 4200000001 large 65001:1:2 65001:1:3 ext target:65001:5 origin:65001:6 target:65001:7")
			s.ask("announce route 203.0.113.2/32 next-hop self med 1 as-path 65001 community 65001:1 large-community 65001:1:2 extended-community target:65001:5\n", 1)
			s.has("203.0.113.1/32 192.0.2.9 4294967295 65001:1 65535:0 path 65001 65001 4200000001 large 65001:1:2 65001:1:3 ext target:65001:5 origin:65001:6 target:65001:7, " +
				"203.0.113.2/32 192.0.2.1 1 65001:1 large 65001:1:2 ext target:65001:5")
			s.ask("show adj-rib out extensive\n", 1)
			s.note("updates %d", s.updates())
			for _, change := range []string{"", "local-preference 5", "local-preference 5", "large-community 65001:1:3", "extended-community target:65001:6",
				"as-path [ 65001 65001 ]", "as-path [ 65001 65001 ]"} { // what is the same again is not sent
				s.ask("announce route 203.0.113.2/32 next-hop self med 1 "+change+"\n", 1)
			}
			s.settles()
			s.note("updates %d", s.updates())
		},
	},
	{
		name: "faults of attributes",
		run: func(s *stage) {
			s.connect()
			for _, text := range []string{
				"as-path", "as-path [", "as-path [ 65001", "as-path [ x ]", "as-path x",
				"local-preference", "local-preference x", "local-preference -1",
				"large-community", "large-community 1:2", "large-community [ 1:2:3:4 ]", "large-community 1:2:x",
				"extended-community", "extended-community target:1", "extended-community foo:1:2", "extended-community target:x:2",
				"path-information x", "path-information 1.2.3.400",
			} {
				s.ask("announce route 203.0.113.2/32 next-hop self med 1 "+text+"\n", 1)
			}
			for _, text := range []string{"local-preference 4294967296", "large-community 1:2:4294967296", "extended-community target:70000:70000",
				"extended-community target:1:4294967296"} {
				s.say("announce route 203.0.113.2/32 next-hop self med 1 " + text + "\n")
				s.sleep(100 * time.Millisecond)
				s.note("nothing for %q", text)
			}
			s.settles()
			s.note("updates %d", s.updates())
		},
	},
	{
		name: "path identifiers",
		run: func(s *stage) {
			s.connect()
			with := func(path, med int) string {
				return fmt.Sprintf("announce route 203.0.113.1/32 next-hop self path-information %d med %d\n", path, med)
			}
			s.ask(with(1, 100), 1)
			s.has("203.0.113.1/32 192.0.2.1 100")
			s.ask(with(2, 200), 1) // to a router that does not know them, it is the same prefix
			s.has("203.0.113.1/32 192.0.2.1 200")
			s.ask("show adj-rib out extensive\n", 1)
			s.ask(with(1, 100), 1) // held already
			s.settles()
			s.ask("withdraw route 203.0.113.1/32 path-information 9\n", 1)
			s.settles()
			s.ask("show adj-rib out extensive\n", 1)
			s.ask("withdraw route 203.0.113.1/32 path-information 0.0.0.2\n", 1)
			s.ask("show adj-rib out extensive\n", 1)
			s.ask(wd(1), 1)
			s.ask("show adj-rib out extensive\n", 1)
			s.ask("withdraw route 203.0.113.1/32 path-information 1\n", 1)
			s.ask("show adj-rib out extensive\n", 1)
			s.settles()
			s.note("updates %d", s.updates())
		},
	},
	{
		name: "single neighbors",
		run: func(s *stage) {
			s.connect()
			s.ask("neighbor 192.0.2.2 "+a(1, 1), 1)
			s.has("203.0.113.1/32 192.0.2.1 1")
			for _, selector := range []string{"neighbor 192.0.2.9", "neighbor 192.0.2.", "neighbor 192.0.2.22", "neighbor *", "neighbor x"} {
				s.ask(selector+" "+a(2, 1), 1)
				s.ask(selector+" "+wd(1), 1)
			}
			s.ask("neighbor 192.0.2.2\n", 1)
			s.ask("neighbor 192.0.2.2 announce route 203.0.113.3/33 next-hop self\n", 1)
			s.settles()
			s.ask(a(1, 1), 1) // held already, by the only neighbor
			s.ask("neighbor 192.0.2.2 "+a(1, 2), 1)
			s.has("203.0.113.1/32 192.0.2.1 2")
			s.ask("neighbor 192.0.2.2 "+wd(1), 1)
			s.has("")
			s.note("updates %d", s.updates())
		},
	},
	{
		name: "queries",
		run: func(s *stage) {
			s.connect()
			s.sleep(1100 * time.Millisecond)
			s.ask("announce route 2001:db8:f::2/128 next-hop 2001:db8::1 med 2\n", 1)
			s.ask(a(9, 1)+"announce route 203.0.113.2/32 next-hop 192.0.2.1 med 7 community [ 65001:1 65535:0 ]\n", 2)
			for _, text := range []string{"show neighbor summary", "show neighbor status", "show adj-rib out extensive", "show adj-rib out",
				"show neighbor configuration", "abc version"} {
				s.note("%s", text)
				s.ask(text+"\n", 1)
			}
			s.has("2001:db8:f::2/128 2001:db8::1 2, 203.0.113.2/32 192.0.2.1 7 65001:1 65535:0, 203.0.113.9/32 192.0.2.1 1")
			s.ask(a(2, 1)+wd(9)+a(9, 3), 3)
			s.ask("show adj-rib out extensive\n", 1)
		},
	},
	{
		name: "a query in a burst",
		run: func(s *stage) {
			s.connect()
			s.sleep(1100 * time.Millisecond)
			s.ask(a(1, 1)+"show adj-rib out extensive\n"+wd(1)+"show adj-rib out extensive\nshow neighbor summary\n", 5)
		},
	},
	{
		name: "reset in a burst",
		run: func(s *stage) {
			s.connect()
			s.ask(a(1, 1)+"bogus\nreset\n"+a(2, 2)+"bogus\n", 3)
			s.settles()
		},
	},
	{
		name: "A W A",
		run: func(s *stage) {
			s.connect()
			s.ask(a(9, 9), 1)
			s.has("203.0.113.9/32 192.0.2.1 9")
			s.ask(a(1, 100)+wd(1)+a(1, 100), 3)
			s.settles()
			s.ask(a(1, 100), 1)
			s.settles()
		},
	},
	{
		name: "A B A",
		run: func(s *stage) {
			s.connect()
			s.ask(a(9, 9), 1)
			s.has("203.0.113.9/32 192.0.2.1 9")
			s.ask(a(1, 100)+a(1, 200)+a(1, 100), 3)
			s.settles()
		},
	},
	{
		name: "present, B W B",
		run: func(s *stage) {
			s.connect()
			s.ask(a(1, 100), 1)
			s.has("203.0.113.1/32 192.0.2.1 100")
			s.ask(a(1, 200)+wd(1)+a(1, 200), 3)
			s.settles()
		},
	},
	{
		name: "present, W A W",
		run: func(s *stage) {
			s.connect()
			s.ask(a(1, 100), 1)
			s.has("203.0.113.1/32 192.0.2.1 100")
			s.ask(wd(1)+a(1, 100)+wd(1), 3)
			s.settles()
		},
	},
	{
		name: "present, W A",
		run: func(s *stage) {
			s.connect()
			s.ask(a(1, 100), 1)
			s.has("203.0.113.1/32 192.0.2.1 100")
			s.ask(wd(1)+a(1, 100), 2)
			s.settles()
		},
	},
	{
		name: "the first batch of a session is an A W A",
		run: func(s *stage) {
			s.connect()
			s.ask(a(1, 100)+wd(1)+a(1, 100), 3)
			s.settles()
		},
	},
	{
		name: "one after the other",
		run: func(s *stage) {
			s.connect()
			for range 5 {
				s.ask(a(1, 100), 1)
				s.ask(wd(1), 1)
				s.ask(a(1, 200), 1)
				s.ask(a(1, 100), 1)
			}
			s.settles()
		},
	},
	{
		name: "respawn",
		run: func(s *stage) {
			s.connect()
			s.ask(a(1, 100)+a(2, 100), 2)
			s.has("203.0.113.1/32 192.0.2.1 100, 203.0.113.2/32 192.0.2.1 100")
			s.sleep(time.Second)
			before := s.updates()
			s.kill()
			s.await(markStart, 2)
			s.note("updates %d", s.updates()-before)
			s.ask("show neighbor summary\n", 1)
			s.ask("show adj-rib out extensive\n", 1)
			s.ask(a(1, 100)+a(2, 100), 2)
			s.settles()
			s.note("updates %d", s.updates()-before)
		},
	},
	{
		name: "respawn with half a line",
		run: func(s *stage) {
			s.connect()
			s.ask(a(1, 100), 1)
			s.say("announce route 203.0.113.2/32 next-hop se")
			s.sleep(200 * time.Millisecond)
			s.kill()
			s.await(markStart, 2)
			s.say(a(3, 100)) // goes with it
			s.sleep(200 * time.Millisecond)
			s.ask("\n", 1)
			s.ask(a(4, 100), 1)
			s.has("203.0.113.1/32 192.0.2.1 100, 203.0.113.4/32 192.0.2.1 100")
		},
	},
	{
		name: "replies owed to a predecessor",
		run: func(s *stage) {
			s.connect()
			var burst strings.Builder
			for i := range 350 {
				fmt.Fprintf(&burst, "announce route 198.18.%d.%d/32 next-hop self med %d\n", i/250, i%250, i)
			}
			s.freeze()
			s.say(burst.String())
			s.sleep(200 * time.Millisecond)
			s.kill()
			s.thaw()
			s.await(markStart, 2)
			s.sleep(4 * time.Second)
			owed := fmt.Sprintf("updates %d, replies %d", s.updates(), s.count("done"))
			s.say(a(1, 1)) // goes with the unfinished line
			s.sleep(100 * time.Millisecond)
			s.ask(a(2, 2), 1)
			s.sleep(300 * time.Millisecond)
			owed += fmt.Sprintf(", %d errors, updates %d", s.count("error"), s.updates())
			s.forget()
			switch owed {
			case "updates 314, replies 314, 1 errors, updates 315": // 16 KiB were read
			case "updates 350, replies 325, 0 errors, updates 352": // ExaBGP looked before the end, and once more after it
			default:
				s.t.Error(owed)
			}
		},
	},
	{
		name: "the session is reset",
		run: func(s *stage) {
			s.connect()
			s.ask(a(1, 100)+a(2, 200)+wd(2), 3)
			s.has("203.0.113.1/32 192.0.2.1 100")
			s.reset()
			s.await("up", 2)
			s.has("203.0.113.1/32 192.0.2.1 100")
			s.note("updates %d", s.updates())
			s.ask(wd(1), 1)
			s.has("")
		},
	},
	{
		name: "changes while the session is down",
		with: short,
		run: func(s *stage) {
			s.connect()
			s.ask(a(1, 100)+a(2, 100)+a(3, 100), 3)
			s.has("203.0.113.1/32 192.0.2.1 100, 203.0.113.2/32 192.0.2.1 100, 203.0.113.3/32 192.0.2.1 100")
			s.link(false)
			s.await("down", 1)
			s.ask(wd(1), 1)
			s.ask(a(2, 200), 1)
			s.ask(a(4, 100), 1)
			s.ask(a(5, 100), 1)
			s.ask(wd(5), 1)
			s.ask("show neighbor summary\n", 1)
			s.ask("show adj-rib out extensive\n", 1)
			s.link(true)
			s.await("up", 2)
			s.has("203.0.113.2/32 192.0.2.1 200, 203.0.113.3/32 192.0.2.1 100, 203.0.113.4/32 192.0.2.1 100")
			s.settles()
			s.note("updates %d", s.updates())
		},
	},
	{
		name: "A B W while the session is down",
		with: short,
		run: func(s *stage) {
			s.pause()
			s.ask(a(1, 100), 1)
			s.ask(a(1, 200), 1)
			s.ask(wd(1), 1)
			s.ask("show adj-rib out\n", 1)
			s.link(true)
			s.await("up", 2)
			s.settles()
			s.ask(wd(1), 1)
			s.settles()
		},
	},
	{
		name: "A, an attempt in vain, B W while the session is down",
		with: short,
		run: func(s *stage) {
			s.pause()
			s.ask(a(1, 100)+wd(2), 2)
			s.await("down", s.count("down")+1)
			s.ask(a(1, 200), 1)
			s.ask(wd(1), 1)
			s.ask(a(3, 100), 1)
			s.link(true)
			s.await("up", 2)
			s.settles()
			s.note("updates %d", s.updates())
		},
	},
	{
		name: "A B A while the session is down",
		with: short,
		run: func(s *stage) {
			s.pause()
			s.ask(a(1, 100), 1)
			s.ask(a(1, 200), 1)
			s.ask(a(1, 100), 1)
			s.link(true)
			s.await("up", 2)
			s.settles()
			s.ask(a(1, 100), 1)
			s.settles()
		},
	},
	{
		name: "A W while the session is down",
		with: short,
		run: func(s *stage) {
			s.pause()
			s.ask(a(1, 100), 1)
			s.ask(wd(1), 1)
			s.ask(a(2, 100), 1)
			s.ask(wd(2), 1)
			s.ask(a(2, 200), 1)
			s.link(true)
			s.await("up", 2)
			s.settles()
		},
	},
	{
		name: "changes before the first session",
		run: func(s *stage) {
			s.ask(a(1, 100), 1)
			s.connect()
			s.forget()
			s.has("203.0.113.1/32 192.0.2.1 100")
			s.note("updates %d", s.updates())
		},
	},
	{
		name: "the link goes",
		with: short,
		run: func(s *stage) {
			s.connect()
			s.ask(a(1, 100), 1)
			s.has("203.0.113.1/32 192.0.2.1 100")
			since := s.now()
			s.link(false)
			s.until("the router lost the routes", func() bool { return s.routes() == "" })
			s.took("router", since, 0, 500*time.Millisecond)
			s.await("down", 1)
			s.took("down", since, 1200*time.Millisecond, 4300*time.Millisecond)
			s.link(true)
			since = s.now()
			s.await("up", 2)
			s.took("up", since, 0, 9*time.Second)
			s.has("203.0.113.1/32 192.0.2.1 100")
		},
	},
	{
		name: "the link goes for half a second",
		with: short,
		run: func(s *stage) {
			s.connect()
			s.ask(a(1, 100), 1)
			s.has("203.0.113.1/32 192.0.2.1 100")
			since := s.now()
			s.link(false)
			s.sleep(500 * time.Millisecond)
			s.note("router: %s", s.routes())
			s.link(true)
			s.await("down", 1)
			s.took("down", since, 500*time.Millisecond, 4300*time.Millisecond)
			s.await("up", 2)
			s.took("up", since, 500*time.Millisecond, 9*time.Second)
			s.has("203.0.113.1/32 192.0.2.1 100")
		},
	},
	{
		name: "nothing gets through",
		with: short,
		run: func(s *stage) {
			s.connect()
			s.ask(a(1, 100), 1)
			s.has("203.0.113.1/32 192.0.2.1 100")
			since := s.now()
			s.silence(Both)
			s.await("down", 1)
			s.took("down", since, 1200*time.Millisecond, 4300*time.Millisecond)
			s.until("the router lost the routes", func() bool { return s.routes() == "" })
			s.took("router", since, 1200*time.Millisecond, 4300*time.Millisecond)
			s.sleep(2 * time.Second)
			s.silence(None)
			s.await("up", 2)
			s.has("203.0.113.1/32 192.0.2.1 100")
		},
	},
	{
		name: "nothing gets to the router",
		with: short,
		run: func(s *stage) {
			s.connect()
			s.ask(a(1, 100), 1)
			s.has("203.0.113.1/32 192.0.2.1 100")
			since := s.now()
			s.silence(ToTor)
			s.until("the router lost the routes", func() bool { return s.routes() == "" })
			s.took("router", since, 1200*time.Millisecond, 3500*time.Millisecond)
			s.await("down", 1)
			s.took("down", since, 1200*time.Millisecond, 3600*time.Millisecond) // the router says so
			s.silence(None)
			s.await("up", 2)
			s.has("203.0.113.1/32 192.0.2.1 100")
		},
	},
	{
		name: "nothing gets to the host",
		with: short,
		run: func(s *stage) {
			s.connect()
			s.ask(a(1, 100), 1)
			s.has("203.0.113.1/32 192.0.2.1 100")
			since := s.now()
			s.silence(ToHost)
			s.ask(a(2, 100), 1)
			s.await("down", 1)
			s.took("down", since, 1200*time.Millisecond, 4300*time.Millisecond)
			s.until("the router lost the routes", func() bool { return s.routes() == "" })
			s.took("router", since, 1200*time.Millisecond, 4500*time.Millisecond)
			s.silence(None)
			s.await("up", 2)
			s.has("203.0.113.1/32 192.0.2.1 100, 203.0.113.2/32 192.0.2.1 100")
		},
	},
	{
		name: "nothing gets through for a second",
		with: func(c *Config) { c.HoldTime = 9 * time.Second },
		run: func(s *stage) {
			s.connect()
			s.ask(a(1, 100), 1)
			s.has("203.0.113.1/32 192.0.2.1 100")
			since := s.now()
			s.silence(Both)
			s.ask(a(2, 100), 1)
			s.sleep(time.Second)
			s.note("router: %s", s.routes())
			s.silence(None)
			s.has("203.0.113.1/32 192.0.2.1 100, 203.0.113.2/32 192.0.2.1 100")
			s.took("route", since, time.Second, 3500*time.Millisecond)
			s.sleep(10 * time.Second)
		},
	},
	{
		name: "keepalives",
		with: func(c *Config) { c.HoldTime, c.Keepalives = 3*time.Second, true },
		run: func(s *stage) {
			s.connect()
			s.sleep(5500 * time.Millisecond)
			if n := s.count("keepalive"); n < 5 || n > 9 { // with that of the handshake
				s.t.Errorf("%d keepalives", n)
			}
		},
	},
	{
		name: "ExaBGP stands still for a second",
		with: short,
		run: func(s *stage) {
			s.connect()
			s.ask(a(1, 100), 1)
			s.has("203.0.113.1/32 192.0.2.1 100")
			s.freeze()
			s.say(a(2, 100))
			s.sleep(time.Second)
			s.note("router: %s", s.routes())
			s.thaw()
			s.has("203.0.113.1/32 192.0.2.1 100, 203.0.113.2/32 192.0.2.1 100")
			s.sleep(5 * time.Second)
		},
	},
	{
		name: "ExaBGP stands still for longer",
		with: short,
		run: func(s *stage) {
			s.connect()
			s.ask(a(1, 100), 1)
			s.has("203.0.113.1/32 192.0.2.1 100")
			since := s.now()
			s.freeze()
			s.say(a(2, 100))
			s.until("the router lost the routes", func() bool { return s.routes() == "" })
			s.took("router", since, 1200*time.Millisecond, 3500*time.Millisecond)
			s.sleep(time.Second)
			s.note("silence")
			s.thaw()
			s.await("up", 2)
			s.has("203.0.113.1/32 192.0.2.1 100, 203.0.113.2/32 192.0.2.1 100")
		},
	},
	{
		name: "the process does not read",
		with: short,
		run: func(s *stage) {
			s.connect()
			s.ask(a(1, 100), 1)
			s.has("203.0.113.1/32 192.0.2.1 100")
			s.fill("show neighbor summary\n", 700)
			s.until("the router lost the routes", func() bool { return s.routes() == "" })
			s.note("the router gave up")
			s.resume()
			s.until("all replies", func() bool { return s.count("header") == 700 && s.count("done") == 701 })
			s.await("up", 2)
			s.has("203.0.113.1/32 192.0.2.1 100")
			s.forget()
			s.ask(a(2, 1), 1)
		},
	},
	{
		name: "the process does not read and is killed",
		with: short,
		run: func(s *stage) {
			s.connect()
			s.ask(a(1, 100), 1)
			s.has("203.0.113.1/32 192.0.2.1 100")
			s.fill("show neighbor summary\n", 700)
			s.until("the router lost the routes", func() bool { return s.routes() == "" })
			s.kill()
			s.await(markStart, 2)
			s.await("up", 2)
			s.has("203.0.113.1/32 192.0.2.1 100")
			s.sleep(time.Second)
			if n := s.count("header"); n < 100 || n > 690 {
				s.t.Errorf("%d answers", n)
			}
			s.forget()
			s.ask(a(2, 1), 1)
		},
	},
	{
		name: "ExaBGP crashes",
		run: func(s *stage) {
			s.connect()
			s.fill("show neighbor\n", 4000)
			s.sleep(time.Second)
			s.kill()
			s.until("ExaBGP ended", func() bool { return !s.running() })
			s.until("the router heard", func() bool { return !s.up() })
		},
	},
	{
		name: "SIGTERM",
		run: func(s *stage) {
			s.connect()
			s.ask(a(1, 100), 1)
			s.has("203.0.113.1/32 192.0.2.1 100")
			s.term()
			s.until("ExaBGP ended", func() bool { return !s.running() })
			s.has("")
		},
	},
	{
		name: "SIGTERM in a burst",
		run: func(s *stage) {
			s.connect()
			s.ask(a(1, 100), 1)
			s.has("203.0.113.1/32 192.0.2.1 100")
			s.freeze()
			s.say(wd(1) + a(2, 100))
			s.term()
			s.thaw()
			s.until("ExaBGP ended", func() bool { return !s.running() })
			s.has("")
		},
	},
	{
		name: "shutdown by command",
		run: func(s *stage) {
			s.connect()
			s.ask(a(1, 100), 1)
			s.say("shutdown\n" + a(2, 100))
			s.until("ExaBGP ended", func() bool { return !s.running() })
			s.has("")
		},
	},
	{
		name: "SIGKILL",
		run: func(s *stage) {
			s.connect()
			s.ask(a(1, 100), 1)
			s.has("203.0.113.1/32 192.0.2.1 100")
			s.killExaBGP()
			s.until("the process heard", func() bool { return s.count(markEnd) == 1 })
			s.has("")
		},
	},
	{
		name: "too many deaths",
		run: func(s *stage) {
			for s.now().Unix()%64 > 50 {
				s.sleep(time.Second)
			}
			s.connect()
			s.kill() // the starts before may be of the slot before
			s.await(markStart, 2)
			s.forget()
			for n := 3; s.running() && n < 8; n++ {
				s.kill()
				s.until("a start or the end", func() bool { return s.count(markStart) >= n || !s.running() })
				s.sleep(500 * time.Millisecond)
			}
			if n := s.count(markStart); n < 6 || n > 7 {
				s.t.Errorf("%d starts", n)
			}
			s.until("ExaBGP ended", func() bool { return !s.running() })
			s.forget()
			s.has("")
		},
	},
	{
		name: "the process closes its output",
		run: func(s *stage) {
			s.connect()
			s.ask(a(1, 100), 1)
			s.closeOutput()
			s.await(markStart, 2)
			s.await(markTerm, 1)
			s.forget()
			s.ask(a(2, 100), 1)
			s.has("203.0.113.1/32 192.0.2.1 100, 203.0.113.2/32 192.0.2.1 100")
		},
	},
	{
		name: "no acknowledgements",
		with: func(c *Config) { c.Acks = false },
		run: func(s *stage) {
			s.connect()
			s.say(a(1, 100) + "bogus\nversion\nshow neighbor summary\n" + a(2, 100))
			s.has("203.0.113.1/32 192.0.2.1 100, 203.0.113.2/32 192.0.2.1 100")
		},
	},
	{
		name: "no changes told",
		with: func(c *Config) { c.Changes = false },
		run: func(s *stage) {
			s.ask(a(1, 100), 1)
			s.has("203.0.113.1/32 192.0.2.1 100")
			s.reset()
			s.sleep(100 * time.Millisecond)
			s.has("203.0.113.1/32 192.0.2.1 100")
			s.ask("show neighbor summary\n", 1)
			s.term()
			s.until("ExaBGP ended", func() bool { return !s.running() })
		},
	},
}

// pause has the session go down, and waits for a pause between two attempts that is long enough for some commands.
func (s *stage) pause() {
	s.connect()
	s.link(false)
	s.await("down", 4)
}

// fill stops the process and has ExaBGP say more than the pipe to it takes.
func (s *stage) fill(command string, times int) {
	s.freeze()
	s.say(strings.Repeat(command, times))
	s.sleep(100 * time.Millisecond)
	s.stop()
	s.thaw()
}
