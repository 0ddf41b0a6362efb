package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"exazk/vagrant/browser"
	"exazk/vagrant/lab"
)

// follows is how soon the page of a node has what the routers have.
const follows = time.Second

// TestPage looks at the page of two nodes in Chromium, from the management network, while things happen to a third.
func TestPage(t *testing.T) {
	if err := browser.Missing(); err != nil && place.missing == "" {
		t.Skip(err)
	}
	newStage(t, "page", 4*time.Second, lab.Options{HTTP: true}).play(t,
		act{"page follows a failed check", pageFollowsCheck},
		act{"page follows a crash", pageFollowsCrash},
		act{"page of a new process", pageRemembers},
		act{"page without zookeeper", pageWithoutZooKeeper},
		act{"page moves with a reload", pageMoves},
	)
}

// look opens the page of a load balancer, and has it keep when it showed what about the first VIP.
func (s *scene) look(b *browser.Browser, lb string) *browser.Tab {
	s.Helper()
	tab, err := b.Open(fmt.Sprintf("http://%s:%d/", lab.ManagementAddr(lb), lab.HTTPPort), browser.Screen{Width: 1280, Height: 900})
	s.must(err)
	s.Cleanup(func() {
		if s.Failed() {
			text, _ := browser.Eval[string](tab, "document.body.innerText")
			s.Logf("the page of %s:\n%s", lb, text)
		}
		tab.Close()
	})
	s.must(tab.Until(5*time.Second, onPage+" !== null"))
	_, err = browser.Eval[any](tab, `(() => {
		window.seen = [];
		const look = () => { const now = `+onPage+`.innerText; if (seen.at(-1)?.who !== now) seen.push({at: Date.now(), who: now}); };
		new MutationObserver(look).observe(document.body, {subtree: true, childList: true, characterData: true});
		look();
	})(), null`)
	s.must(err)
	return tab
}

var onPage = fmt.Sprintf(`document.querySelector('tr[data-key="%s"] .who')`, lab.VIPs()[vip1])

// browser starts Chromium on the management network, which leads nowhere else.
func (s *scene) browser() *browser.Browser {
	s.Helper()
	b, err := browser.Start(s.Context(), func(ctx context.Context, argv ...string) *exec.Cmd { return s.lab.Host("zk").Command(ctx, argv...) })
	s.must(err)
	s.Cleanup(b.Close)
	return b
}

// showed is when a page first showed exactly those nodes, in any order, after an instant.
func (s *scene) showed(tab *browser.Tab, after time.Time, nodes ...string) time.Time {
	s.Helper()
	var at time.Time
	s.until(10*time.Second, fmt.Sprintf("the page shows %v", nodes), func() error {
		all, err := browser.Eval[[]struct {
			At  int64
			Who string
		}](tab, "seen")
		if err != nil {
			return err
		}
		for _, seen := range all {
			who := strings.Split(seen.Who, ", ")
			slices.Sort(who)
			if at = time.UnixMilli(seen.At); !at.Before(after) && slices.Equal(who, nodes) {
				return nil
			}
		}
		return fmt.Errorf("it showed %v", all)
	})
	return at
}

// moved waits until r0 has a VIP by those leaves and returns the last instant at which it had not.
func (s *scene) moved(vip int, limit time.Duration, leaves ...string) time.Time {
	s.Helper()
	var before time.Time
	there := s.announcedBy(vip, leaves...)
	s.until(limit, fmt.Sprintf("announced by %v", leaves), func() error {
		asked := time.Now()
		err := there()
		if err != nil {
			before = asked
		}
		return err
	})
	return before
}

// inTime compares a page with the routers.
func (s *scene) inTime(what string, tab *browser.Tab, began, moved time.Time, nodes ...string) {
	s.Helper()
	late := s.showed(tab, began, nodes...).Sub(moved)
	s.Logf("%s: the page shows it %v after the routers", what, ms(late))
	if late > follows {
		s.Errorf("%s: the page was %v late, want %v at most", what, ms(late), follows)
	}
}

func pageFollowsCheck(s *scene) {
	b := s.browser()
	own, other := s.look(b, victim), s.look(b, "lb2")
	began := time.Now()
	s.must(s.lab.StopWeb(victim))
	moved := s.moved(vip1, 5*time.Second, "r2", "r3")
	s.inTime("failure, on another node", other, began, moved, "node2", "node3")
	s.inTime("failure, on the node itself", own, began, moved, "node2", "node3")
	s.must(other.Until(follows, `document.querySelector('.timeline').innerText.includes("healthy → unhealthy")`))
	began = time.Now()
	s.must(s.lab.StartWeb(s.Context(), victim))
	moved = s.moved(vip1, 20*time.Second, leaf)
	s.inTime("return, on another node", other, began, moved, "node1")
	s.inTime("return, on the node itself", own, began, moved, "node1")
	for _, tab := range []*browser.Tab{own, other} {
		if faults := tab.Faults(); len(faults) > 0 {
			s.Errorf("the browser complains: %v", faults)
		}
	}
}

func pageFollowsCrash(s *scene) {
	b := s.browser()
	own, other := s.look(b, victim), s.look(b, "lb2")
	began := time.Now()
	s.must(s.lab.CrashHost(victim))
	moved := s.moved(vip1, s.stage.noticed()+5*time.Second, "r2", "r3")
	s.inTime("crash", other, began, moved, "node2", "node3")
	s.must(own.Until(10*time.Second, `document.querySelector('#link').innerText.startsWith("connection lost")`))
	began = time.Now()
	s.must(s.lab.BootHost(s.Context(), victim))
	moved = s.moved(vip1, 30*time.Second, leaf)
	s.inTime("boot", other, began, moved, "node1")
	s.inTime("boot, on the node itself", own, began, moved, "node1")
}

// pageWithoutZooKeeper says that it is old, and shows what this node sees by itself.
func pageWithoutZooKeeper(s *scene) {
	own := s.look(s.browser(), victim)
	s.must(s.lab.StopZK())
	s.must(own.Until(s.stage.session+10*time.Second, `document.querySelector('#notice').innerText.includes("ZooKeeper is lost as node1 sees it")`))
	s.must(own.Until(follows, onPage+`.innerText === "node1"`))
	s.must(s.lab.StartZK(s.Context()))
	s.must(own.Until(20*time.Second, `document.querySelector('#notice').innerText === ""`))
}

// pageMoves to another address, to one that is taken, and back. Neither moves a route.
func pageMoves(s *scene) {
	at := func(port int) error {
		out, err := s.lab.Host("zk").Run(s.Context(), "curl", "--silent", "--fail", "--max-time", "2", fmt.Sprintf("http://%s:%d/healthz", lab.ManagementAddr(victim), port))
		if err == nil && out != "ok\n" {
			err = fmt.Errorf("it says %q", out)
		}
		return err
	}
	text, err := os.ReadFile(s.lab.Host(victim).Path("/etc/exazk/apex-node1.toml"))
	s.must(err)
	on := func(port int) string {
		return strings.Replace(string(text), fmt.Sprintf(":%d\"", lab.HTTPPort), fmt.Sprintf(":%d\"", port), 1)
	}
	s.unmoved(lab.Balancers(), func() {
		s.must(at(lab.HTTPPort))
		s.reload(victim, on(9181))
		s.until(5*time.Second, "it listens elsewhere", func() error { return at(9181) })
		if at(lab.HTTPPort) == nil {
			s.Error("it listens where it did, too")
		}
		s.reload(victim, on(80)) // the web server's
		s.until(5*time.Second, "the log says so", func() error {
			if !strings.Contains(s.said(victim), "http server cannot listen") {
				return fmt.Errorf("it does not")
			}
			return nil
		})
		s.must(s.steadyNow())
		s.reload(victim, on(lab.HTTPPort))
		s.until(5*time.Second, "it is back", func() error { return at(lab.HTTPPort) })
	})
}

// pageRemembers shows what was before the process that serves it.
func pageRemembers(s *scene) {
	unhealthy := "document.querySelector('.timeline').innerText.includes('healthy → unhealthy')"
	s.must(s.lab.StopWeb(victim))
	s.moved(vip1, 5*time.Second, "r2", "r3")
	s.must(s.lab.StartWeb(s.Context(), victim))
	s.steady()
	before, err := s.lab.ExazkPID("lb2")
	s.must(err)
	s.must(s.lab.SignalExazk("lb2", syscall.SIGKILL))
	s.until(10*time.Second, "a new process", func() error {
		pid, err := s.lab.ExazkPID("lb2")
		if err == nil && pid == before {
			err = fmt.Errorf("process %d is still there", pid)
		}
		return err
	})
	s.steady()
	s.must(s.look(s.browser(), "lb2").Until(10*time.Second, unhealthy))
}
