package zkstate

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-zookeeper/zk"
	"github.com/sirupsen/logrus"
)

var update = flag.Bool("update", false, "rewrite the transcripts in testdata")

// epoch is where the clock of the transcripts starts.
var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func testConfig() Config {
	return Config{
		Servers:        []string{"127.0.0.1"},
		SessionTimeout: 4 * time.Second,
		Node:           "n1",
		Instance:       "i1",
		Services: []Service{{
			Name:            "web",
			ClaimsPath:      "/x/service/web",
			MaintenancePath: "/x/maintenance/web/n1",
			StatusPath:      "/x/status/web/n1",
			VIPs:            []string{"192.0.2.1", "192.0.2.2"},
			Authoritative:   []string{"192.0.2.1"},
		}},
	}
}

// player drives a Machine by the lines of a transcript and notes what comes out.
//
// A line "> AT WORDS" is an input at that time after the start. Its words:
//
//	tick · up CONN ID TIMEOUT · down CONN · expired CONN · changed CONN PATH · resync · stop · abandon
//	want VIP=WISH… health=WORD        what should lie in ZooKeeper
//	want SERVICE/VIP=WISH… SERVICE/health=WORD    the same for a service other than web
//	want -maintenance=DATA -failback=DATA    what should go, if it says this
//	services NAME:VIPS:OWN[:ROOT[:DIR]]…    new services, below ROOT (/x) in directories DIR (NAME)
//	serve                             the tree answers all calls and delivers the watches, until nothing is left to do
//	serve 1                           it answers one call
//	overtaken PATH                    it answers one call, but the removal of PATH is told before
//	unwatch                           the tree forgets all watches
//	hold                              forget all calls: they stay unanswered
//	error OP PATH WORD                answers one call with an error
//	late OP PATH                      the tree carries one call out and answers it, out of turn
//	put PATH OWNER DATA · rm PATH · set PATH DATA · deny RIGHT PATH · permit RIGHT PATH · expire ID    others change the tree
type player struct {
	m       *Machine
	tree    *tree
	sent    []Call
	fired   []NodeChanged
	mute    bool // wake-ups are not noted
	done    bool
	out     strings.Builder
	logged  bytes.Buffer
	session int64
	conn    uint64
}

func newPlayer(cfg Config) *player {
	p := &player{}
	p.tree = newTree(func(session int64, path string) {
		if session == p.session {
			p.fired = append(p.fired, NodeChanged{p.conn, path})
		}
	})
	log := logrus.New()
	log.SetOutput(&p.logged)
	log.SetFormatter(lineFormat{})
	p.m = NewMachine(cfg, logrus.NewEntry(log))
	return p
}

// lineFormat prints a log line without its time, for warnings and errors only.
type lineFormat struct{}

func (lineFormat) Format(e *logrus.Entry) ([]byte, error) {
	if e.Level > logrus.WarnLevel {
		return nil, nil
	}
	line := fmt.Sprintf("  log %s %q", e.Level, e.Message)
	for _, k := range slices.Sorted(maps.Keys(e.Data)) {
		line += fmt.Sprintf(" %s=%v", k, e.Data[k])
	}
	return []byte(line + "\n"), nil
}

func (p *player) step(at time.Duration, in Input) {
	out := p.m.Step(epoch.Add(at), in)
	p.out.Write(p.logged.Bytes())
	p.logged.Reset()
	if out.Open != 0 {
		fmt.Fprintf(&p.out, "  open %d\n", out.Open)
		p.conn, p.sent = out.Open, nil
	}
	for _, c := range out.Calls {
		p.sent = append(p.sent, c)
		fmt.Fprintf(&p.out, "  call %s\n", callText(c))
	}
	for _, ev := range out.Events {
		fmt.Fprintf(&p.out, "  event %s\n", eventText(ev))
	}
	if p.done = out.Done; out.Done {
		fmt.Fprintln(&p.out, "  done")
	} else if !p.mute && !out.Wake.IsZero() {
		fmt.Fprintf(&p.out, "  wake %v\n", out.Wake.Sub(epoch))
	}
}

func callText(c Call) string {
	s := c.Op.String() + " " + c.Path
	if c.Watch {
		s += " watch"
	}
	if c.Ephemeral {
		s += " ephemeral"
	}
	if len(c.Data) > 0 && len(c.Data) < 200 {
		s += " " + string(c.Data)
	}
	return s
}

func eventText(ev Event) string {
	at := func(t time.Time) time.Duration { return t.Sub(epoch) }
	switch ev := ev.(type) {
	case SessionChanged:
		s := fmt.Sprintf("session %s %#x %v", ev.State, ev.ID, ev.Timeout)
		if ev.AfterLoss {
			s += " after loss"
		}
		return s
	case ClaimsRead:
		s := fmt.Sprintf("claims %s in %#x since %v:", ev.Service, ev.Session, at(ev.Began))
		for _, vip := range slices.Sorted(maps.Keys(ev.Claims)) {
			c := ev.Claims[vip]
			s += fmt.Sprintf(" %s %s", vip, c.Holder)
			if c.Node != "" {
				s += " of " + c.Node
			}
			if c.Detail != "" {
				s += fmt.Sprintf(" (%s)", c.Detail)
			}
		}
		return s
	case MaintenanceRead:
		s := fmt.Sprintf("maintenance %s in %#x since %v: %v", ev.Service, ev.Session, at(ev.Began), ev.Present)
		if ev.Data != nil {
			s += fmt.Sprintf(" %q", ev.Data)
		}
		return s
	case FailbackRead:
		return fmt.Sprintf("failback %s in %#x since %v: %v %q", ev.Service, ev.Session, at(ev.Began), ev.Present, ev.Data)
	case PeersRead:
		s := fmt.Sprintf("peers %s in %#x since %v:", ev.Service, ev.Session, at(ev.Began))
		for _, n := range slices.Sorted(maps.Keys(ev.Peers)) {
			s += " " + n + " " + ev.Peers[n].Health
		}
		return s
	}
	return fmt.Sprintf("?%T", ev)
}

// serve answers calls, most times all of them, watches first: a server sends them before the answer.
func (p *player) serve(at time.Duration, most int) {
	p.mute = true
	for range most {
		switch {
		case p.done:
			return
		case len(p.fired) > 0:
			ev := p.fired[0]
			p.fired = p.fired[1:]
			p.step(at, ev)
		case len(p.sent) > 0:
			c := p.sent[0]
			p.sent = p.sent[1:]
			res := p.tree.serve(p.session, "n1", c)
			for len(p.fired) > 0 {
				ev := p.fired[0]
				p.fired = p.fired[1:]
				p.step(at, ev)
			}
			p.step(at, res)
		default:
			if p.step(at, Tick{}); len(p.sent) == 0 {
				p.mute = false
				p.step(at, Tick{}) // shows the wake-up
				return
			}
		}
	}
	p.mute = false
}

var errorWords = map[string]error{"nonode": zk.ErrNoNode, "exists": zk.ErrNodeExists, "noauth": zk.ErrNoAuth,
	"closed": zk.ErrConnectionClosed, "badversion": zk.ErrBadVersion, "odd": errors.New("unknown error: -5")}

func (p *player) answer(at time.Duration, op, path, word string) error {
	i := slices.IndexFunc(p.sent, func(c Call) bool { return c.Op.String() == op && c.Path == path })
	if i < 0 || errorWords[word] == nil {
		return fmt.Errorf("no call %s %s, or no error %s", op, path, word)
	}
	c := p.sent[i]
	p.sent = slices.Delete(p.sent, i, i+1)
	p.step(at, Result{Tag: c.Tag, Err: errorWords[word]})
	return nil
}

func (p *player) want(words []string) Want {
	w := Want{Claims: make(map[ClaimKey]Wish), Statuses: make(map[string]*Status), Remove: make(map[FlagKey][]byte)}
	for _, word := range words {
		k, v, _ := strings.Cut(word, "=")
		service := "web"
		if name, rest, found := strings.Cut(k, "/"); found {
			service, k = name, rest
		}
		if f := slices.Index([]string{"-maintenance", "-failback"}, k); f >= 0 {
			w.Remove[FlagKey{"web", Flag(f)}] = []byte(v)
			continue
		}
		switch v {
		case "hold":
			w.Claims[ClaimKey{service, k}] = Hold
		case "release":
			w.Claims[ClaimKey{service, k}] = Release
		case "leave":
			w.Claims[ClaimKey{service, k}] = Leave
		default:
			w.Statuses[service] = &Status{Node: "n1", Instance: "i1", Health: v}
		}
	}
	return w
}

// testServices makes services of what "services" says.
func testServices(words []string) []Service {
	list := func(s string) []string { return strings.FieldsFunc(s, func(r rune) bool { return r == ',' }) }
	var all []Service
	for _, word := range words {
		part := strings.Split(word, ":")
		part = append(part, []string{"", "", "", "/x", part[0]}[len(part):]...)
		root, dir := part[3], part[4]
		all = append(all, Service{Name: part[0], ClaimsPath: root + "/service/" + dir, MaintenancePath: root + "/maintenance/" + dir + "/n1",
			StatusPath: root + "/status/" + dir + "/n1", VIPs: list(part[1]), Authoritative: list(part[2])})
	}
	return all
}

// play carries out one input line.
func (p *player) play(line string) error {
	words := strings.Fields(strings.TrimPrefix(line, ">"))
	at, err := time.ParseDuration(words[0])
	if err != nil {
		return err
	}
	number := func(s string) int64 {
		n, e := strconv.ParseInt(s, 0, 64)
		err = errors.Join(err, e)
		return n
	}
	switch verb, args := words[1], append(words[2:], "", "", ""); verb {
	case "tick":
		p.step(at, Tick{})
	case "up":
		timeout, e := time.ParseDuration(args[2])
		if e != nil {
			return e
		}
		p.session = number(args[1])
		p.step(at, SessionUp{Conn: uint64(number(args[0])), ID: p.session, Timeout: timeout})
	case "down":
		p.step(at, SessionDown{Conn: uint64(number(args[0]))})
		p.sent = nil
	case "expired":
		p.step(at, SessionExpired{Conn: uint64(number(args[0]))})
	case "changed":
		p.step(at, NodeChanged{Conn: uint64(number(args[0])), Path: args[1]})
	case "resync":
		p.step(at, ResyncAsked{})
	case "stop":
		p.step(at, Stop{})
	case "abandon":
		p.step(at, Stop{Abandon: true})
	case "want":
		p.step(at, SetWant{p.want(words[2:])})
	case "services":
		p.step(at, Reconfigured{testServices(words[2:])})
	case "late":
		i := slices.IndexFunc(p.sent, func(c Call) bool { return c.Op.String() == args[0] && c.Path == args[1] })
		if i < 0 {
			return fmt.Errorf("no call %s %s", args[0], args[1])
		}
		c := p.sent[i]
		p.sent = slices.Delete(p.sent, i, i+1)
		p.step(at, p.tree.serve(p.session, "n1", c))
	case "serve":
		most := 10000
		if args[0] != "" {
			most = int(number(args[0]))
		}
		p.serve(at, most)
	case "hold":
		p.sent = nil
	case "unwatch":
		p.tree.watches = make(map[serverWatch]bool)
	case "overtaken": // the first call is answered, and the removal of a node overtakes the answer
		c := p.sent[0]
		p.sent = p.sent[1:]
		res := p.tree.serve(p.session, "n1", c)
		err = errors.Join(err, p.tree.remove(args[0]))
		for _, ev := range p.fired {
			p.step(at, ev)
		}
		p.fired = nil
		p.step(at, res)
	case "error":
		return p.answer(at, args[0], args[1], args[2])
	case "put":
		p.tree.put(args[0], number(args[1]), strings.Join(words[4:], " "))
	case "rm":
		err = errors.Join(err, p.tree.remove(args[0]))
	case "set":
		p.tree.set(args[0], strings.Join(words[3:], " "))
	case "deny":
		p.tree.deny[args[0]+" "+args[1]] = true
	case "permit":
		delete(p.tree.deny, args[0]+" "+args[1])
	case "expire":
		p.tree.expire(number(args[0]))
	default:
		return fmt.Errorf("no such input: %s", verb)
	}
	return err
}

// TestTranscripts replays testdata/*.txt and compares all that the Machine asked for.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no transcripts", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			cfg := testConfig()
			if strings.HasPrefix(filepath.Base(file), "failback") {
				cfg.Services[0].FailbackPath = "/x/failback/web/n1"
			}
			p := newPlayer(cfg)
			for line := range strings.Lines(string(want)) {
				line = strings.TrimRight(line, "\n")
				switch {
				case strings.HasPrefix(line, ">"):
					fmt.Fprintln(&p.out, line)
					if err := p.play(line); err != nil {
						t.Fatalf("%s: %v, after\n%s", line, err, p.out.String())
					}
				case !strings.HasPrefix(line, "  "):
					fmt.Fprintln(&p.out, line)
				}
			}
			for _, fault := range p.tree.faults {
				t.Error(fault)
			}
			if *update {
				if err := os.WriteFile(file, []byte(p.out.String()), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got := p.out.String(); got != string(want) {
				t.Errorf("the machine does otherwise:\n%s", got)
			}
		})
	}
}
