package main

import (
	"time"
)

// variant is what keeps the VIPs reachable in a run.
type variant string

const (
	exazk   variant = "exazk"
	standby variant = "standby" // exazk with backups that announce all the time
	anycast variant = "anycast" // ExaBGP's own healthcheck: every node announces every VIP for as long as its check succeeds
)

// variants in the order of the page.
var variants = []variant{exazk, standby, anycast}

// Timers of the lab, from its sample configurations.
const (
	holdTime       = 3 * time.Second        // of BGP, agreed between ToR and load balancer
	sessionTimeout = 4 * time.Second        // of exazk's ZooKeeper sessions
	serverTick     = 100 * time.Millisecond // of ZooKeeper, which ends sessions on a multiple of it
	converge       = 300 * time.Millisecond
	// election is what a new leader may take, by measurement some 0.3 s; it gives all sessions their whole timeout again.
	election = 2 * time.Second
)

// scenario is one thing that happens to the lab, and what it may cost.
type scenario struct {
	name     string // of files
	title    string // in the table
	what     string // for people, a sentence or two
	ends     bool   // the process of the victim's ExaBGP, which must not end too often
	ensemble bool   // on three ZooKeeper servers instead of one
	anycast  bool   // means something without exazk too
	standby  bool   // is also played with standby backups
	fabric   bool   // is not played with backups on demand, for they need ZooKeeper
	limits   limits

	before []step // while nobody looks
	during []step // while the client sends its probes
	after  []step // while nobody looks
}

// limits is what a run of exazk may cost.
type limits struct {
	gap     time.Duration // longest time that any VIP goes unanswered; 0: not one probe is lost
	bound   string        // what gap is made of
	timers  string        // which of the two timers are in it: "", "hold", "session"
	steady  time.Duration // from the last step of during to the state that it waits for
	updates [2]int        // routes announced and withdrawn, to the ToR of the one it happens to, and to each of the others
	// manyUpdates says that updates does not apply.
	manyUpdates bool
}

// planned allows nothing to be lost.
func planned(steady time.Duration, own, other int) limits {
	return limits{steady: steady, updates: [2]int{own, other}}
}

// failure allows one gap.
func failure(gap time.Duration, bound, timers string, steady time.Duration, own, other int) limits {
	return limits{gap: gap, bound: bound, timers: timers, steady: steady, updates: [2]int{own, other}}
}

// step is a part of a scenario. What is nil is left out.
type step struct {
	text       string            // the mark in the picture; LB stands for the load balancer that it happens to
	do         func(*take) error // acts
	until      func(*take) error // is asked, again and again, until it returns nil
	hold       time.Duration     // how long to wait after that
	throughout func(*take) error // must be nil all that time
}

// Limits of the time to the steady state.
const (
	soon         = 5 * time.Second
	afterSession = 20 * time.Second // where a session timeout is in it
)

// settled is the time in which what happened late would show: ends of sessions, absences believed after settle.
const settled = 2*sessionTimeout + 2*time.Second

// scenarios lists everything in the order of the page.
func scenarios() []scenario {
	return append(append(plannedOnes(), zooKeeperOnes()...), append(append(failures(), withoutZooKeeper()...), flaps()...)...)
}

func plannedOnes() []scenario {
	enter := step{"LB enters maintenance", (*take).drain, (*take).drained, time.Second, nil}
	leave := step{"LB leaves maintenance", (*take).undrain, (*take).steady, 1500 * time.Millisecond, (*take).steady}
	crash := step{"LB loses power", (*take).crash, (*take).takenOver, 0, nil}
	boot := step{"LB boots", (*take).boot, (*take).steady, 1500 * time.Millisecond, (*take).steady}
	return []scenario{
		{
			name: "maintenance-enter", title: "Maintenance: enter", anycast: true, limits: planned(soon, 1, 1),
			what:   "An operator creates the maintenance node of a load balancer (for the baseline: the file of healthcheck's --disable).",
			during: []step{enter}, after: []step{leave},
		}, {
			name: "maintenance-leave", title: "Maintenance: leave", anycast: true, limits: planned(soon, 1, 1),
			what:   "The maintenance node is deleted; the load balancer takes its VIP back.",
			before: []step{enter}, during: []step{leave},
		}, {
			name: "exazk-sigterm", title: "exazk gets SIGTERM", ends: true, anycast: true, limits: planned(soon, 2, 2),
			what:   "exazk ends in order, after another node has its VIP. ExaBGP starts it again, and the VIP returns.",
			during: []step{{"exazk on LB gets SIGTERM", (*take).terminate, (*take).steadyReborn, 3 * time.Second, (*take).steady}},
		}, {
			name: "exazk-sigkill", title: "exazk gets SIGKILL", ends: true, anycast: true, limits: planned(soon, 0, 0),
			what:   "ExaBGP keeps the routes and starts exazk again, which takes its own claim over. No route moves.",
			during: []step{{"exazk on LB gets SIGKILL", (*take).kill, (*take).steadyReborn, sessionTimeout + 2*serverTick, (*take).steady}},
		}, {
			name: "upgrade", title: "Upgrade of exazk", ends: true, limits: planned(soon, 0, 0),
			what:   "The program is replaced by another file and the running one gets SIGKILL.",
			during: []step{{"exazk on LB is replaced", (*take).upgrade, (*take).steadyReborn, sessionTimeout + 2*serverTick, (*take).steady}},
		}, {
			name: "exabgp-restart", title: "ExaBGP stops and starts", anycast: true, limits: planned(soon, 2, 2),
			what: "What systemd does by the sample drop-in, by hand: ExecStop drains, ExaBGP gets SIGTERM, and later it is started. " +
				"The baseline has nothing to drain with: its ExaBGP just gets SIGTERM.",
			during: []step{
				{"ExaBGP on LB is stopped", (*take).stopUnit, (*take).takenOver, time.Second, (*take).takenOver},
				{"ExaBGP on LB is started", (*take).startUnit, (*take).steady, 1500 * time.Millisecond, (*take).steady},
			},
		}, {
			name: "node-return", title: "Return of a crashed node", anycast: true, limits: planned(soon, 1, 1),
			what:   "A load balancer that lost its power boots; its VIP returns to it.",
			before: []step{crash}, during: []step{boot},
		},
	}
}

func zooKeeperOnes() []scenario {
	const away = 60 * time.Second
	const unseen = sessionTimeout + 3*time.Second // the server runs, nobody reaches it, and every session ends
	still := func(text string, do func(*take) error, hold time.Duration) step {
		return step{text, do, nil, hold, (*take).steady}
	}
	return []scenario{
		{
			name: "zookeeper-outage", title: "ZooKeeper away for 60 s", limits: planned(afterSession, 0, 0),
			what: "The server is killed. It starts again before it can be reached, so that every session has ended when it can: " +
				"for a moment nobody holds a claim. No route moves.",
			during: []step{
				still("ZooKeeper killed", (*take).zkVanish, away-unseen),
				still("", (*take).zkStartUnseen, unseen),
				{"reachable, all sessions over", (*take).zkAppear, (*take).steadyWithNewSessions, settled, (*take).steady},
			},
		}, {
			name: "node-cut-off", title: "One node cut off from ZooKeeper", limits: planned(afterSession, 0, 2),
			what: "A load balancer loses the management network for longer than its session. It goes on announcing, the others " +
				"announce beside it, and leave when it is back.",
			during: []step{
				{"LB is cut off", (*take).cutOff, (*take).besides, 4 * time.Second, (*take).besides},
				{"LB is back", (*take).rejoin, (*take).steady, 2 * time.Second, (*take).steady},
			},
		}, {
			name: "rolling-restart", title: "Ensemble: rolling restart", ensemble: true, limits: planned(afterSession, 0, 0),
			what:   "The three servers are restarted one after the other. No route moves.",
			during: []step{still("", (*take).rollZK, settled)},
		}, {
			name: "leader-killed", title: "Ensemble: leader killed", ensemble: true, limits: planned(afterSession, 0, 0),
			what: "The leader gets SIGKILL and is started again later. No route moves.",
			during: []step{
				still("leader killed", (*take).killLeader, settled),
				still("it starts again", (*take).startVictim, 3*time.Second),
			},
		}, {
			name: "leader-frozen", title: "Ensemble: leader frozen", ensemble: true, limits: planned(afterSession, 0, 0),
			what: "The leader gets SIGSTOP for 15 s while the two others are a quorum. No route moves.",
			during: []step{
				still("leader frozen", (*take).freezeLeader, 15*time.Second),
				still("it goes on", (*take).thawVictim, settled),
			},
		}, {
			name: "ensemble-frozen", title: "Ensemble: all servers frozen", ensemble: true, limits: planned(afterSession, 0, 0),
			what: "All three servers get SIGSTOP for longer than every session. No route moves.",
			during: []step{
				still("all servers frozen", (*take).freezeZK, unseen),
				{"they go on", (*take).thawZK, (*take).steadyWithClaims, settled, (*take).steady},
				{do: (*take).countSessions},
			},
		},
	}
}

func failures() []scenario {
	takeover := func(text string, do func(*take) error, hold time.Duration) step {
		return step{text, do, (*take).takenOver, hold, (*take).takenOver}
	}
	back := func(text string, do func(*take) error) step {
		return step{text, do, (*take).steady, 1500 * time.Millisecond, (*take).steady}
	}
	expiry := sessionTimeout + converge
	return []scenario{
		{
			name: "check-failure", title: "Check fails", ends: true, anycast: true,
			limits: failure(1300*time.Millisecond, "check: 1 s + 0.2 s", "", soon, 2, 2),
			what:   "The web server of a load balancer is killed, and started again within 3 s, so that its node is forgiven at once.",
			during: []step{takeover("web server of LB dies", (*take).stopWeb, time.Second/2), back("it starts", (*take).startWeb)},
			after:  []step{{do: (*take).forget, until: (*take).steadyReborn}},
		}, {
			name: "link-down", title: "ToR link down", anycast: true, standby: true,
			limits: failure(converge, "300 ms", "", soon, 1, 2),
			what:   "The cable between a load balancer and its ToR is pulled for two seconds, less than the hold time, and plugged in again.",
			during: []step{takeover("link of LB down", (*take).linkDown, 1500*time.Millisecond), back("link up", (*take).linkUp)},
		}, {
			name: "link-down-long", title: "ToR link down for long", anycast: true,
			limits: failure(converge, "300 ms", "", 2*soon, 1, 2),
			what: "The same for longer than the hold time. By then ExaBGP has tried in vain to connect, and waits longer before each " +
				"further attempt (4.2: up to 60 s); how long the return takes is mostly that.",
			during: []step{takeover("link of LB down", (*take).linkDown, holdTime+time.Second), back("link up", (*take).linkUp)},
		}, {
			name: "exabgp-sigkill", title: "ExaBGP gets SIGKILL", anycast: true, standby: true,
			limits: failure(converge, "300 ms", "", soon, 1, 2),
			what:   "ExaBGP dies, and its processes with it. It is started again.",
			during: []step{takeover("ExaBGP on LB gets SIGKILL", (*take).killExaBGP, time.Second), back("it starts", (*take).startExaBGP)},
		}, {
			name: "host-lost", title: "Host lost", anycast: true, standby: true,
			limits: failure(expiry, "session timeout 4 s + 300 ms", "session", soon, 1, 2),
			what: "A load balancer loses its power. Its ToR drops the routes at once, but the other nodes learn of it only when its " +
				"ZooKeeper session ends, which the server looks for once a tick.",
			during: []step{takeover("LB loses power", (*take).crash, time.Second), back("LB boots", (*take).boot)},
		}, {
			name: "tor-silent", title: "ToR silent", anycast: true,
			limits: failure(holdTime+converge, "hold time 3 s + 300 ms", "hold", soon, 1, 2),
			what:   "All packets between a load balancer and its ToR are lost while both see their links up.",
			during: []step{takeover("nothing passes between LB and its ToR", (*take).blackhole, time.Second), back("it passes again", (*take).heal)},
		}, {
			name: "leader-and-host-lost", title: "Ensemble: leader killed with a load balancer", ensemble: true,
			limits: failure(election+expiry, "session timeout 4 s + election (at most 2 s) + 300 ms", "session", afterSession, 1, 2),
			what:   "The leader gets SIGKILL at the moment when a load balancer loses its power. A new leader gives every session its whole timeout again.",
			during: []step{
				takeover("leader and LB lost", (*take).crashWithLeader, time.Second),
				{"", (*take).startVictim, nil, 0, nil},
				back("LB boots", (*take).boot),
			},
		},
	}
}

// overAnycast is how much longer than the baseline's a gap with standby backups may be: the fabric fails over alone in both.
const overAnycast = 20 * time.Millisecond

// withoutZooKeeper are failures that the fabric must bear alone: ZooKeeper is away, for the baseline there is none.
func withoutZooKeeper() []scenario {
	away := []step{{"", (*take).stopZK, nil, sessionTimeout + time.Second, (*take).steady}}
	alone := func(text string, do func(*take) error) []step {
		return []step{{text, do, (*take).takenOver, time.Second, (*take).takenOver}}
	}
	back := func(do func(*take) error) []step {
		return []step{{do: (*take).startZK}, {do: do, until: (*take).steady}}
	}
	return []scenario{
		{
			name: "host-lost-alone", title: "Host lost without ZooKeeper", anycast: true, standby: true, fabric: true,
			what:   "A load balancer loses its power while ZooKeeper is away.",
			before: away, during: alone("LB loses power", (*take).crash), after: back((*take).boot),
		}, {
			name: "link-down-alone", title: "ToR link down without ZooKeeper", anycast: true, standby: true, fabric: true,
			what:   "The cable between a load balancer and its ToR is pulled while ZooKeeper is away.",
			before: away, during: alone("link of LB down", (*take).linkDown), after: back((*take).linkUp),
		}, {
			name: "exabgp-sigkill-alone", title: "ExaBGP gets SIGKILL without ZooKeeper", anycast: true, standby: true, fabric: true,
			what:   "ExaBGP dies while ZooKeeper is away.",
			before: away, during: alone("ExaBGP on LB gets SIGKILL", (*take).killExaBGP), after: back((*take).startExaBGP),
		},
	}
}

func flaps() []scenario {
	// Each failure of a check may cost what one does. How often routes may change, flapLong knows.
	busy := failure(1300*time.Millisecond, "check: 1 s + 0.2 s", "", soon, 0, 0)
	busy.manyUpdates = true
	return []scenario{
		{
			name: "flap-short", title: "Check fails 300 ms every 2 s", ends: true, anycast: true, limits: planned(soon, 0, 0),
			what:   "For half a minute, the check of a load balancer fails for 300 ms every 2 s while its web server is fine. No route moves.",
			during: []step{{"check of LB flaps", (*take).flapShortly, (*take).steady, 2 * time.Second, (*take).steady}},
			after:  []step{{do: (*take).forget, until: (*take).steadyReborn}},
		}, {
			name: "flap-long", title: "Check alternates every 5 s", ends: true, anycast: true, limits: busy,
			what: "For three minutes, the check of a load balancer fails for 5 s and succeeds for 5 s while its web server is fine. " +
				"Its VIP's route may change once a minute.",
			during: []step{{"check of LB flaps", (*take).flapLong, nil, time.Second, nil}},
			after:  []step{{do: (*take).forget, until: (*take).steadyReborn}},
		},
	}
}
