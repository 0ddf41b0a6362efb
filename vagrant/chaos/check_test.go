package main

import (
	"strings"
	"testing"
	"time"

	"exazk/sim/fault"
	"exazk/vagrant/probe/report"
)

const sec = time.Second

// quiet is a round of a minute in which nothing happens.
func quiet() observed {
	o := observed{end: time.Minute}
	for at := time.Duration(0); at < o.end; at += lookEvery {
		o.routers = append(o.routers, routerSight{at: at, took: 10 * time.Millisecond, leaf: [3]uint8{1, 2, 4}, up: [3]bool{true, true, true}, spine: [3]uint8{1, 2, 4}})
		o.zk = append(o.zk, zkSight{at: at, took: 10 * time.Millisecond, claimed: 7, recorded: 7})
	}
	return o
}

// announces has a node announce those VIPs, and nothing else, in a span, and claim its own accordingly.
func (o *observed) announces(node int, vips uint8, s span) {
	o.routes(node, vips, s)
	for i := range o.zk {
		if z := &o.zk[i]; z.at >= s.from && z.at < s.to {
			z.claimed = z.claimed&^(1<<node) | vips&(1<<node)
		}
	}
}

// routes is announces without the claim.
func (o *observed) routes(node int, vips uint8, s span) {
	for i := range o.routers {
		if r := &o.routers[i]; r.at >= s.from && r.at < s.to {
			r.leaf[node] = vips
		}
	}
}

// did adds a deed, of which beginning and end took no time.
func (o *observed) did(f fault.Fault) {
	d := deed{Fault: f, began: f.At, begun: f.At, ending: f.End(), ended: f.End()}
	o.deeds = append(o.deeds, d)
	if f.Kind == fault.SickCheck || f.Kind == fault.HangCheck {
		o.spells = append(o.spells, spell{f.Node, f.Kind == fault.HangCheck, d.sure()})
	}
}

func faultOf(t *testing.T, text string) fault.Fault {
	t.Helper()
	f, err := fault.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestPromises shows of each promise that it can be broken, and what is no breach of it.
func TestPromises(t *testing.T) {
	lost := func(o *observed, vip int, s span) { o.losses[vip] = append(o.losses[vip], loss{s, 1}) }
	for _, tt := range []struct {
		name   string
		faults string // comma between them
		seen   func(*observed)
		want   string // part of the violation; empty for none
	}{
		{"nothing happens", "", func(*observed) {}, ""},

		{"sick and silent in time", "10s sick-check lb1 for 10s", func(o *observed) { o.announces(0, 0, span{12 * sec, 20 * sec}) }, ""},
		{"sick and heard", "10s sick-check lb1 for 10s", func(*observed) {}, "lb1 announces .1, sick since"},
		{"sick and heard again", "10s sick-check lb1 for 10s", func(o *observed) {
			o.announces(0, 0, span{12 * sec, 16 * sec})
			o.announces(0, 4, span{16 * sec, 17 * sec})
			o.announces(0, 0, span{17 * sec, 20 * sec})
		}, "lb1 announces .3, sick since"},
		{"a hanging check takes longer", "10s hang-check lb2 for 10s", func(o *observed) { o.announces(1, 0, span{14500 * time.Millisecond, 20 * sec}) }, ""},
		{"a hanging check too long", "10s hang-check lb2 for 10s", func(o *observed) { o.announces(1, 0, span{16 * sec, 20 * sec}) }, "lb2 announces .2, sick since"},
		{"sick, and the check hangs", "10s sick-check lb1 for 10s, 10s hang-check lb1 for 10s", func(o *observed) { o.announces(0, 0, span{14500 * time.Millisecond, 20 * sec}) }, ""},
		{"sick while exazk stands still", "10s sick-check lb1 for 10s, 11s pause-exazk lb1 for 8s", func(*observed) {}, ""},
		{"sick long after exazk stood still", "10s sick-check lb1 for 30s, 11s pause-exazk lb1 for 8s", func(*observed) {}, "lb1 announces .1, sick since"},
		{"sick while another's exazk stands still", "10s sick-check lb1 for 10s, 11s pause-exazk lb2 for 8s", func(*observed) {}, "lb1 announces .1, sick since"},
		{"sick when the machine stood still", "10s sick-check lb1 for 5s", func(o *observed) { o.lags = []span{{11 * sec, 15 * sec}} }, ""},
		{"sick for a moment", "10s sick-check lb1 for 2s", func(*observed) {}, ""},

		{"drained in time", "10s maintenance lb3 for 30s", func(o *observed) { o.announces(2, 0, span{19 * sec, 40 * sec}) }, ""},
		{"drained and heard", "10s maintenance lb3 for 30s", func(*observed) {}, "lb3 announces .3, drained since"},
		{"drained until then and heard", "10s until lb3 for 30s", func(*observed) {}, "lb3 announces .3, drained since"},
		{"drained while cut off", "10s maintenance lb3 for 30s, 10.1s cut-zk lb3 both for 20s", func(*observed) {}, ""},
		{"drained while another is cut off", "10s maintenance lb3 for 30s, 10.1s cut-zk lb2 both for 20s", func(*observed) {}, "lb3 announces .3, drained since"},

		{"a failure is noticed", "10s crash lb1 for 20s", func(o *observed) { lost(o, 0, span{10 * sec, 14 * sec}) }, ""},
		{"a failure is not noticed", "10s crash lb1 for 20s", func(o *observed) { lost(o, 0, span{10 * sec, 17 * sec}) }, "10.20.255.1 is not answered from 10.00 s to 17.00 s"},
		{"a failure, and then another", "10s crash lb1 for 20s, 14s slow-exabgp lb2 for 2s", func(o *observed) { lost(o, 0, span{10 * sec, 17 * sec}) }, ""},
		{"nobody is left", "9s crash lb2 for 20s, 9.5s link-down lb3 for 20s, 10s crash lb1 for 20s", func(o *observed) { lost(o, 0, span{10 * sec, 30 * sec}) }, ""},
		{"the others have no session", "10s crash lb1 for 20s", func(o *observed) {
			lost(o, 0, span{10 * sec, 30 * sec})
			for i := range o.routers {
				o.routers[i].up = [3]bool{}
			}
		}, ""},
		{"no ZooKeeper", "9s pause-ensemble for 30s, 10s crash lb1 for 30s", func(o *observed) { lost(o, 0, span{10 * sec, 30 * sec}) }, ""},
		{"one server less is no excuse", "10s kill-server zk1 for 40s, 10s crash lb1 for 40s", func(o *observed) { lost(o, 0, span{10 * sec, 50 * sec}) }, "10.20.255.1 is not answered"},
		{"two servers less is one", "10s kill-server zk1 for 40s, 10s pause-server zk2 for 40s, 10s crash lb1 for 40s", func(o *observed) { lost(o, 0, span{10 * sec, 50 * sec}) }, ""},
		{"a black hole that nobody can close", "10s sick-check lb1 for 20s, 10s pause-exazk lb1 for 20s", func(o *observed) { lost(o, 0, span{10 * sec, 30 * sec}) }, ""},
		{"a loss while the machine stood still", "10s crash lb1 for 20s", func(o *observed) {
			lost(o, 0, span{10 * sec, 17 * sec})
			o.lags = []span{{13 * sec, 14 * sec}}
		}, ""},

		{"a loss while the machine was slow again and again", "10s crash lb1 for 20s", func(o *observed) {
			lost(o, 0, span{10 * sec, 17 * sec})
			for at := 5 * sec; at < 17*sec; at += sec {
				o.lags = append(o.lags, span{at, at + 150*time.Millisecond})
			}
		}, ""},
		{"a loss while the machine was slow now and then", "10s crash lb1 for 20s", func(o *observed) {
			lost(o, 0, span{10 * sec, 17 * sec})
			o.lags = []span{{8 * sec, 8150 * time.Millisecond}, {14 * sec, 14150 * time.Millisecond}}
		}, "10.20.255.1 is not answered"},

		{"something planned costs a probe", "10s term-exazk lb1", func(o *observed) { lost(o, 0, span{11 * sec, 11010 * time.Millisecond}) }, "10.20.255.1 lost 1 probes"},
		{"nothing costs a probe", "", func(o *observed) { lost(o, 1, span{11 * sec, 11010 * time.Millisecond}) }, "10.20.255.2 lost 1 probes"},
		{"something unplanned costs a probe", "10s link-down lb1 for 1s", func(o *observed) { lost(o, 0, span{10 * sec, 10010 * time.Millisecond}) }, ""},
		{"something planned after something unplanned", "5s kill-server zk1 for 2s, 10s term-exazk lb1", func(o *observed) { lost(o, 0, span{11 * sec, 11010 * time.Millisecond}) }, ""},
		{"something planned long after something unplanned", "5s kill-server zk1 for 2s, 50s term-exazk lb1", func(o *observed) { lost(o, 0, span{51 * sec, 51010 * time.Millisecond}) }, "10.20.255.1 lost 1 probes"},
		{"all are drained", "10s maintenance lb1 for 20s, 10s maintenance lb2 for 20s, 10s maintenance lb3 for 20s", func(o *observed) {
			for node := range 3 {
				o.announces(node, 0, span{20 * sec, 30 * sec})
				lost(o, node, span{20 * sec, 30 * sec})
			}
		}, ""},
		{"two are drained", "10s maintenance lb1 for 20s, 10s maintenance lb2 for 20s", func(o *observed) {
			o.announces(0, 0, span{12 * sec, 30 * sec})
			o.announces(1, 0, span{12 * sec, 30 * sec})
			lost(o, 0, span{20 * sec, 20010 * time.Millisecond})
		}, "10.20.255.1 lost 1 probes"},

		{"a claim without its route", "", func(o *observed) { o.routes(1, 0, span{10 * sec, 13 * sec}) }, "lb2 claims its VIP since 10.00 s without"},
		{"a claim without its route for a moment", "", func(o *observed) { o.routes(1, 0, span{10 * sec, 11 * sec}) }, ""},
		{"a claim of a sick node without its route", "10s sick-check lb2 for 20s", func(o *observed) { o.routes(1, 0, span{11 * sec, 30 * sec}) }, "lb2 claims its VIP since 11.00 s without"},
		{"a claim that cannot be given up", "10s isolate lb2 for 3s", func(o *observed) { o.routes(1, 0, span{10 * sec, 14 * sec}) }, ""},
		{"a claim that is not given up for long", "10s cut-zk lb2 both for 1s", func(o *observed) { o.routes(1, 0, span{10 * sec, 50 * sec}) }, "lb2 claims its VIP since 10.00 s without"},

		{"a stranger", "", func(o *observed) { o.routers[7].strange = []string{"r1 has 10.20.255.9/32 by lb1"} }, "r1 has 10.20.255.9/32 by lb1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := quiet()
			for text := range strings.SplitSeq(tt.faults, ", ") {
				if text != "" {
					o.did(faultOf(t, text))
				}
			}
			tt.seen(&o)
			if strings.Contains(tt.faults, "for ") && tt.want == "" {
				for _, d := range o.deeds { // a node without power or link has neither routes nor claims of use
					if d.Kind == fault.Crash || d.Kind == fault.LinkDown {
						o.announces(d.Node, 0, d.all())
					}
				}
			}
			got := judge(o)
			switch {
			case tt.want == "" && len(got) > 0:
				t.Errorf("found %v", got)
			case tt.want != "" && len(got) != 1:
				t.Errorf("found %v, want one with %q", got, tt.want)
			case tt.want != "" && !strings.Contains(got[0].What, tt.want):
				t.Errorf("found %q, want %q", got[0].What, tt.want)
			}
		})
	}
}

// TestUndoThatFails: a drain that could not be undone excuses its node for the rest of the round, and no other.
func TestUndoThatFails(t *testing.T) {
	for _, tt := range []struct {
		other string
		want  bool
	}{{"11s kill-ensemble for 1s", true}, {"11s cut-zk lb1 both for 1s", true}, {"11s cut-zk lb2 both for 1s", false}, {"11s crash lb1 for 1s", false}} {
		o := quiet()
		o.did(faultOf(t, "10s restart-exabgp lb1 for 2s"))
		o.did(faultOf(t, tt.other))
		if got := o.undoMayFail(o.deeds[0]); got != tt.want {
			t.Errorf("%s: %v", tt.other, got)
		}
	}
}

func TestFinallyAnswered(t *testing.T) {
	began := time.Now()
	s := &story{start: began}
	good := func() report.Report {
		var rep report.Report
		for i := range 3 {
			rep.Series = append(rep.Series, report.Series{VIP: vip(i), Kind: "udp", Turns: []report.Turn{{Node: []string{"lb1", "lb2", "lb3"}[i], From: began, To: began.Add(time.Minute)}}})
		}
		return rep
	}
	at := func(d time.Duration) time.Time { return began.Add(d) }
	for _, tt := range []struct {
		name  string
		spoil func(*report.Series)
		want  string
	}{
		{"as it should be", func(*report.Series) {}, ""},
		{"losses before", func(s *report.Series) { s.Losses = []report.Loss{{From: at(40 * sec), To: at(41 * sec), Lost: 1}} }, ""},
		{"losses", func(s *report.Series) { s.Losses = []report.Loss{{From: at(51 * sec), To: at(52 * sec), Lost: 1}} }, "loses probes"},
		{"answered by another", func(s *report.Series) { s.Turns[0].Node = "lb1" }, "answered by lb1"},
		{"answered by its owner late", func(s *report.Series) { s.Turns[0].From = at(52 * sec) }, "answered by lb2 since 52.00 s"},
		{"never answered", func(s *report.Series) { s.Turns = nil }, "answered by nobody"},
	} {
		rep := good()
		tt.spoil(&rep.Series[1])
		got := finallyAnswered(rep, s, 50*sec)
		if (tt.want == "") != (len(got) == 0) || len(got) > 0 && !strings.Contains(got[0].What, tt.want) {
			t.Errorf("%s: found %v, want %q", tt.name, got, tt.want)
		}
	}
}
