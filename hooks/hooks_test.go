package hooks

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"exazk/daemon"
	"exazk/internal/logtest"
)

// rig runs hooks on real processes. Their commands may use $OUT, a directory.
type rig struct {
	*Hooks
	t    *testing.T
	dir  string
	log  *logtest.Buffer
	stop func()
}

func newRig(t *testing.T, hooks ...daemon.Hook) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), log: &logtest.Buffer{}}
	t.Setenv("OUT", r.dir)
	logger := logrus.New()
	logger.SetOutput(r.log)
	for i := range hooks {
		if hooks[i].Timeout == 0 {
			hooks[i].Timeout = 20 * time.Second
		}
		if hooks[i].On == nil {
			hooks[i].On = []daemon.What{daemon.WhatVerdict}
		}
	}
	r.Hooks = New("node1", hooks, logrus.NewEntry(logger))
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { r.Run(ctx) })
	r.stop = func() { cancel(); running.Wait() }
	t.Cleanup(r.stop)
	return r
}

func verdict(vip, from, to string) daemon.Transition {
	return daemon.Transition{At: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), What: daemon.WhatVerdict, Service: "apex", VIP: vip, From: from, To: to, Role: "backup", Reason: "unclaimed"}
}

func (r *rig) observe(changes ...daemon.Transition) { r.Observe(daemon.Snapshot{Changes: changes}) }

func (r *rig) read(name string) string {
	text, _ := os.ReadFile(filepath.Join(r.dir, name))
	return string(text)
}

func (r *rig) eventually(what string, ok func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("never: %s; log:\n%s", what, r.log)
		}
	}
}

func (r *rig) has(name, want string) {
	r.t.Helper()
	r.eventually(fmt.Sprintf("%s is %q", name, want), func() bool { return r.read(name) == want })
}

// TestEnvironment has all of a change in the command's environment, and what others may have chosen in a form that cannot break it.
func TestEnvironment(t *testing.T) {
	r := newRig(t, daemon.Hook{Command: `env | grep ^EXAZK_ | sort > $OUT/new && mv $OUT/new $OUT/env`})
	v := verdict("10.20.255.2", "withdraw", "announce")
	v.Subject, v.Detail = "nginx", "a\x00b\nEXAZK_TO=c\xff"+strings.Repeat("é", maxDetail)
	r.observe(v)
	r.has("env", "EXAZK_AT=2026-01-01T00:00:00Z\nEXAZK_DETAIL=a b EXAZK_TO=c\ufffd"+strings.Repeat("é", 141)+"\nEXAZK_FROM=withdraw\nEXAZK_MERGED=1\nEXAZK_NODE=node1\nEXAZK_REASON=unclaimed\n"+
		"EXAZK_ROLE=backup\nEXAZK_SERVICE=apex\nEXAZK_SUBJECT=nginx\nEXAZK_TO=announce\nEXAZK_VIP=10.20.255.2\nEXAZK_WHAT=verdict\n")
}

// TestOnlyWhatIsAskedFor runs a hook for what it is for.
func TestOnlyWhatIsAskedFor(t *testing.T) {
	r := newRig(t,
		daemon.Hook{Args: []string{"/bin/sh", "-c", `echo $EXAZK_TO >> $OUT/health`}, On: []daemon.What{daemon.WhatHealth}},
		daemon.Hook{Command: `echo $EXAZK_TO >> $OUT/verdicts`})
	r.observe(verdict("10.20.255.1", "hold", "announce"), daemon.Transition{What: daemon.WhatHealth, Service: "apex", To: "healthy"}, daemon.Transition{What: daemon.WhatNeighbor, To: "up"})
	r.has("health", "healthy\n")
	r.has("verdicts", "announce\n")
}

// TestOrderAndMerging: while a hook runs for a VIP, what changes there waits, and only the newest state is told; other VIPs go on.
func TestOrderAndMerging(t *testing.T) {
	r := newRig(t, daemon.Hook{Command: `echo "$EXAZK_FROM $EXAZK_TO $EXAZK_MERGED" >> $OUT/$EXAZK_VIP; while [ $EXAZK_VIP = slow ] && [ ! -e $OUT/go ]; do sleep 0.01; done`})
	r.observe(verdict("slow", "hold", "withdraw"))
	r.has("slow", "hold withdraw 1\n")
	for range 50 {
		r.observe(verdict("slow", "withdraw", "announce"), verdict("slow", "announce", "withdraw"))
	}
	r.observe(verdict("slow", "withdraw", "announce"), verdict("fast", "hold", "announce"))
	r.has("fast", "hold announce 1\n")
	if got := r.read("slow"); got != "hold withdraw 1\n" {
		t.Errorf("a second run is under way: %q", got)
	}
	os.WriteFile(filepath.Join(r.dir, "go"), nil, 0o644)
	r.has("slow", "hold withdraw 1\nwithdraw announce 101\n")
}

// TestBounded runs no more than Parallel at a time, and Observe waits for none of them.
func TestBounded(t *testing.T) {
	r := newRig(t, daemon.Hook{Command: `touch $OUT/run-$EXAZK_VIP; while [ ! -e $OUT/go ]; do sleep 0.01; done`})
	began := time.Now()
	for i := range 30 {
		r.observe(verdict(fmt.Sprint(i), "hold", "announce"))
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("observing took %v", took)
	}
	runs := func() int { names, _ := filepath.Glob(filepath.Join(r.dir, "run-*")); return len(names) }
	r.eventually("some run", func() bool { return runs() >= Parallel })
	time.Sleep(100 * time.Millisecond)
	if n := runs(); n != Parallel {
		t.Errorf("%d run at a time", n)
	}
	os.WriteFile(filepath.Join(r.dir, "go"), nil, 0o644)
	r.eventually("all have run", func() bool { return runs() == 30 })
}

// TestFailures are in the log with the last line of what was printed; what hangs is killed with all that it started.
func TestFailures(t *testing.T) {
	r := newRig(t,
		daemon.Hook{Command: `yes no | head -c 999999; echo not done >&2; exit 3`},
		daemon.Hook{Command: `sleep 1000 & echo $! > $OUT/pid; wait`, Timeout: 300 * time.Millisecond},
		daemon.Hook{Args: []string{"/does/not/exist"}})
	r.observe(verdict("10.20.255.1", "hold", "announce"))
	for _, want := range [][]string{
		{`level=warning msg="hook failed"`, "exit_code=3", `output="not done"`, "vip=10.20.255.1", "what=verdict"},
		{`level=warning msg="hook failed"`, "reason=timed-out"},
		{`level=warning msg="hook failed"`, "reason=not-completed", "/does/not/exist: no such file"},
	} {
		r.eventually(fmt.Sprintf("a line with %q", want), func() bool {
			return slices.ContainsFunc(strings.Split(r.log.String(), "\n"), func(line string) bool {
				return !slices.ContainsFunc(want, func(part string) bool { return !strings.Contains(line, part) })
			})
		})
	}
	r.gone()
}

// gone wants the process whose id is in the file "pid" to have ended.
func (r *rig) gone() {
	r.t.Helper()
	pid := 0
	fmt.Sscan(r.read("pid"), &pid)
	r.eventually("the process is gone", func() bool {
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return pid > 0 && (syscall.Kill(pid, 0) == syscall.ESRCH || bytes.Contains(stat, []byte(") Z ")))
	})
}

// TestStop kills what runs, and says how many changes nobody was told of.
func TestStop(t *testing.T) {
	r := newRig(t, daemon.Hook{Command: `sleep 1000 & echo $! > $OUT/new && mv $OUT/new $OUT/pid; wait`})
	r.observe(verdict("10.20.255.1", "hold", "announce"))
	r.eventually("it runs", func() bool { return r.read("pid") != "" })
	r.observe(verdict("10.20.255.1", "announce", "withdraw"))
	r.stop()
	r.gone()
	for _, want := range []string{"hook killed: exazk stops", `msg="stopping, and hooks were not run for all changes" changes=1`} {
		if !strings.Contains(r.log.String(), want) {
			t.Errorf("%q is not in the log:\n%s", want, r.log)
		}
	}
}

// TestFailuresAreReportedAtABoundedRate: each hook has its own, and none that was left out is forgotten.
func TestFailuresAreReportedAtABoundedRate(t *testing.T) {
	h := New("node1", make([]daemon.Hook, 2), nil)
	now := time.Now()
	fail := func(hook, times int) (reported int, unreported []int) {
		for range times {
			if due, n := h.report(hook, now); due {
				reported++
				unreported = append(unreported, n)
			}
		}
		return reported, unreported
	}
	if n, _ := fail(0, 100); n != reportMost {
		t.Errorf("%d of 100 at once are reported, want %d", n, reportMost)
	}
	if n, _ := fail(1, 1); n != 1 {
		t.Error("a failure of another hook is not reported")
	}
	now = now.Add(reportWithin - 1)
	if n, _ := fail(0, 1); n != 0 {
		t.Error("one more is reported too early")
	}
	now = now.Add(1)
	if n, unreported := fail(0, 2); n != 2 || unreported[0] != 101-reportMost || unreported[1] != 0 {
		t.Errorf("later %d of 2 are reported, with %v before them", n, unreported)
	}
}
