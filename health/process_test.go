package health

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The tests below run real shells. A mark in the command's environment finds what a check left behind.

// realChecker returns a Checker for command, with a limit that is far away unless a test sets another one.
func realChecker(t *testing.T, command string, timeout time.Duration) (c *Checker, mark string) {
	return checkerOf(t, &Command{Line: command}, timeout)
}

func checkerOf(t *testing.T, command *Command, timeout time.Duration) (c *Checker, mark string) {
	t.Helper()
	if _, err := os.Stat("/bin/sh"); err != nil {
		t.Skipf("needs a shell: %v", err)
	}
	check := testCheck
	check.Probe, check.Timeout = command, timeout
	mark = fmt.Sprintf("EXAZK_TEST_MARK=%s-%d-%d", t.Name(), os.Getpid(), time.Now().UnixNano())
	cfg := only(check)
	cfg.Env = []string{mark}
	return New(cfg, quiet()), mark
}

// once is one run of the first check.
func (c *Checker) once(ctx context.Context) Result {
	return c.members[0].runner.run(ctx, c.members[0].machine.State())
}

// marked returns the pids of the living processes whose environment holds mark.
func marked(t *testing.T, mark string) (pids []int) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		env, err := os.ReadFile(name)
		if err != nil || !strings.Contains(string(env), mark) { // empty for a zombie
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// eventually polls until ok says so.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not in time: %s", what)
		}
	}
}

// nothingLeft fails if a process with mark lives on, or if a child of ours was not reaped.
func nothingLeft(t *testing.T, mark string) {
	t.Helper()
	eventually(t, "the end of what the check started", func() bool { return len(marked(t, mark)) == 0 })
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range stats {
		stat, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		after := string(stat[strings.LastIndexByte(string(stat), ')')+1:])
		if f := strings.Fields(after); f[0] == "Z" && f[1] == strconv.Itoa(os.Getpid()) {
			t.Errorf("zombie: %s", stat)
		}
	}
}

func TestRealResults(t *testing.T) {
	t.Setenv("exabgp_cli_pipe", "/run/exabgp")
	notExecutable := filepath.Join(t.TempDir(), "check.sh")
	if err := os.WriteFile(notExecutable, []byte("#!/bin/sh\nexit 0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, command string
		want          Result // of Output, a part
	}{
		{"success", "true", Result{OK: true}},
		{"last line", "echo a; echo b", Result{OK: true, Output: "b"}},
		{"stderr", "echo a; echo b >&2; exit 3", Result{ExitCode: 3, Output: "b"}},
		{"not found", "/does/not/exist", Result{ExitCode: 127, Output: "not found"}},
		{"not executable", notExecutable, Result{ExitCode: 126, Output: "denied"}},
		{"syntax error", "if", Result{ExitCode: 2, Output: "yntax error"}},
		{"signal", "kill -TERM $$", Result{ExitCode: -1, Err: "killed by signal: terminated"}},
		{"stdin is at its end", "cat; read x; echo got $?", Result{OK: true, Output: "got 1"}},
		{"stdin is closed by the check", "exec <&-; echo ok", Result{OK: true, Output: "ok"}},
		{"stdout is closed by the check", "exec >&- 2>&-; exit 4", Result{ExitCode: 4}},
		{"directory", "pwd; echo $PWD-$(pwd)", Result{OK: true, Output: "/-/"}},
		{"state", "echo $EXAZK_STATE", Result{OK: true, Output: "unknown"}},
		{"name", "echo $EXAZK_CHECK", Result{OK: true, Output: "web"}},
		{"environment", "env | grep -ci exabgp", Result{ExitCode: 1, Output: "0"}},
		{"session and group of its own", "set -- $(cat /proc/$$/stat); test $5 = $$ && test $6 = $$", Result{OK: true}},
		{"no terminal", "exec 3</dev/tty", Result{ExitCode: 2, Output: "/dev/tty"}},
		{"stdin is not ours", "readlink /proc/self/fd/0", Result{OK: true, Output: "/dev/null"}},
		{"signals ignored", "grep SigIgn /proc/self/status", Result{OK: true, Output: ignoredSignals(t)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, mark := realChecker(t, tt.command, time.Minute)
			got := c.once(t.Context())
			output := got.Output
			want := tt.want
			got.Output, want.Output = "", ""
			if got != want || !strings.Contains(output, tt.want.Output) {
				t.Errorf("%s:\n got %+v output %q\nwant %+v", tt.command, got, output, tt.want)
			}
			nothingLeft(t, mark)
		})
	}
}

// ignoredSignals is what this process was made to ignore by whoever started it: a check inherits that, and no more.
func ignoredSignals(t *testing.T) string {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if mask, ok := strings.CutPrefix(line, "SigIgn:\t"); ok {
			return strings.TrimSpace(mask)
		}
	}
	t.Fatal("no SigIgn in /proc/self/status")
	return ""
}

func TestRealTimeoutKillsEverything(t *testing.T) {
	needs := map[string]string{"timeout(1)": "timeout", "a session of its own": "setsid"}
	tests := []struct{ name, command string }{
		{"the shell", "echo here; while :; do sleep 1; done"},
		{"a child", "echo here; sleep 1000"},
		{"a grandchild", "echo here; sh -c 'sleep 1000; true'; true"},
		{"a background child", "echo here; sleep 1000 & wait"},
		{"one that ignores SIGTERM", "trap '' TERM HUP INT; echo here; while :; do sleep 1000; done"},
		{"one that is stopped", "echo here; kill -STOP $$"},
		{"timeout(1)", "echo here; timeout 1000 sleep 1000; true"},
		{"job control", "set -m; echo here; sleep 1000 & wait"},
		{"many", "echo here; for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done; wait"},
		{"output closed", "echo here; exec >&- 2>&-; sleep 1000; true"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if name := needs[tt.name]; name != "" {
				if _, err := exec.LookPath(name); err != nil {
					t.Skipf("needs %s: %v", name, err)
				}
			}
			c, mark := realChecker(t, tt.command, time.Second)
			began := time.Now()
			got := c.once(t.Context())
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("took %v", took)
			}
			want := Result{ExitCode: -1, TimedOut: true, Err: "timed out after 1s", Output: "here"}
			if got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
			nothingLeft(t, mark)
		})
	}
}

func TestRealBackgroundChildIsKilledAfterSuccess(t *testing.T) {
	for _, command := range []string{
		"sleep 1000 & echo done; exit 0",
		"(trap '' HUP TERM; sleep 1000; sleep 1000) & echo done; exit 0",
		"nohup sleep 1000 >/dev/null 2>&1 & echo done",
	} {
		c, mark := realChecker(t, command, time.Minute)
		began := time.Now()
		got := c.once(t.Context())
		if want := (Result{OK: true, Output: "done"}); got != want {
			t.Errorf("%s: got %+v, want %+v", command, got, want)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("%s: took %v, as if it had waited for the background child", command, took)
		}
		nothingLeft(t, mark)
	}
}

// A process in a session of its own is documented to get away. It must not hold up the run that it came from.
func TestRealRunawayHoldsUpNothing(t *testing.T) {
	if _, err := exec.LookPath("setsid"); err != nil {
		t.Skipf("needs setsid: %v", err)
	}
	c, mark := realChecker(t, "setsid sleep 1000 & echo done; exit 0", time.Minute)
	// The shell may end, and its group be killed, before setsid has run: try until one got away.
	eventually(t, "a process that gets away", func() bool {
		began := time.Now()
		got := c.once(t.Context())
		if want := (Result{OK: true, Output: "done"}); got != want {
			t.Fatalf("got %+v, want %+v", got, want)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("took %v", took)
		}
		return len(marked(t, mark)) > 0
	})
	for _, pid := range marked(t, mark) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
			t.Error(err)
		}
	}
	nothingLeft(t, mark)
}

func TestRealHugeOutput(t *testing.T) {
	const megabytes = 64
	c, mark := realChecker(t, fmt.Sprintf("head -c %d /dev/zero; yes | head -c 20000000; echo; echo end", megabytes<<20), time.Minute)
	if got, want := c.once(t.Context()), (Result{OK: true, Output: "end"}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	nothingLeft(t, mark)
}

func TestRealEndlessOutputIsKilledInTime(t *testing.T) {
	c, mark := realChecker(t, "yes", 300*time.Millisecond)
	if got := c.once(t.Context()); !got.TimedOut || got.Output != "y" {
		t.Errorf("got %+v, want a timeout with output y", got)
	}
	nothingLeft(t, mark)
}

func TestRealMissingShell(t *testing.T) {
	c, _ := realChecker(t, "true", time.Minute)
	c.members[0].runner.(*commandRunner).start = func(env []string) (child, error) {
		return startProcess([]string{"/does/not/exist", "-c", "true"}, env)
	}
	got := c.once(t.Context())
	if got.OK || got.ExitCode != -1 || got.TimedOut || !strings.HasPrefix(got.Err, "start: ") {
		t.Errorf("got %+v, want a failure to start", got)
	}
}

func TestRealRunLeavesNothingWhenItEnds(t *testing.T) {
	for _, command := range []string{"sleep 1000 & wait", "set -m; sleep 1000 & wait", "trap '' TERM; sleep 1000; sleep 1000"} {
		c, mark := realChecker(t, command, time.Hour)
		ctx, cancel := context.WithCancelCause(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx, func(Changed) bool { return true }) }()
		eventually(t, "two processes of the check", func() bool { return len(marked(t, mark)) >= 2 })
		cancel(errStop)
		select {
		case err := <-done:
			if err != errStop {
				t.Errorf("Run returned %v, want %v", err, errStop)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: Run did not return", command)
		}
		nothingLeft(t, mark)
	}
}

func TestRealChangesOfState(t *testing.T) {
	flag := filepath.Join(t.TempDir(), "flag")
	c, mark := realChecker(t, "test -e "+flag, time.Minute)
	c.members[0].machine = NewMachine(Check{Rise: 2, Fall: 2, Interval: 20 * time.Millisecond, FastInterval: 5 * time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	changes := make(chan Changed)
	done := make(chan error, 1)
	go func() {
		done <- c.Run(ctx, func(ch Changed) bool {
			changes <- ch
			return true
		})
	}()
	expect := func(want State) {
		t.Helper()
		select {
		case ch := <-changes:
			if ch.State != want || ch.Result.OK != (want == Healthy) || ch.Took <= 0 {
				t.Errorf("got %+v, want a change to %v", ch, want)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("no change to %v", want)
		}
	}
	expect(Unhealthy)
	if err := os.WriteFile(flag, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	expect(Healthy)
	if err := os.Remove(flag); err != nil {
		t.Fatal(err)
	}
	expect(Unhealthy)
	cancel()
	<-done
	nothingLeft(t, mark)
}

func TestKillSessionSparesOthers(t *testing.T) {
	_, mark := realChecker(t, "true", time.Minute)
	other, err := startProcess([]string{"/bin/sh", "-c", "sleep 1000 & wait"}, append(os.Environ(), "EXAZK_TEST_MARK=other-"+mark))
	if err != nil {
		t.Fatal(err)
	}
	victim, err := startProcess([]string{"/bin/sh", "-c", "set -m; sleep 1000 & wait"}, append(os.Environ(), mark+"-victim"))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the sleepers", func() bool {
		return len(marked(t, "other-"+mark)) == 2 && len(marked(t, mark+"-victim")) == 2
	})
	if err := killSession(victim.(*process).cmd.Process.Pid); err != nil {
		t.Error(err)
	}
	eventually(t, "the end of all but the leader", func() bool { return len(marked(t, mark+"-victim")) <= 1 })
	if n := len(marked(t, "other-"+mark)); n != 2 {
		t.Errorf("%d processes of another session live, want 2", n)
	}
	for _, ch := range []child{victim, other} {
		if err := ch.kill(true); err != nil {
			t.Error(err)
		}
		<-ch.reaped()
	}
	nothingLeft(t, mark)
}

// TestKillMemberSparesOthers checks that a process id which has passed to a process of another session is left alone, and
// that one which is gone is no error.
func TestKillMemberSparesOthers(t *testing.T) {
	stranger := exec.Command("/bin/sleep", "60")
	stranger.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := stranger.Start(); err != nil {
		t.Skip(err)
	}
	pid := stranger.Process.Pid
	eventually(t, "the stranger's session", func() bool { return inSession(pid, pid) })
	if err := killMember(pid, os.Getpid()); err != nil {
		t.Error(err)
	}
	if !inSession(pid, pid) {
		t.Error("a process of another session was killed")
	}
	if err := killMember(pid, pid); err != nil {
		t.Error(err)
	}
	if err := stranger.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("a member of the session ended with %v", err)
	}
	if err := killMember(pid, pid); err != nil {
		t.Errorf("a process that is gone: %v", err)
	}
}

// TestReapedBySomebodyElse takes the end of a check away from us. It did not pass, and why is said.
func TestReapedBySomebodyElse(t *testing.T) {
	ch, err := startProcess([]string{"/bin/sh", "-c", "exit 0"}, os.Environ())
	if err != nil {
		t.Skip(err)
	}
	<-ch.exited()
	if _, err := syscall.Wait4(ch.(*process).cmd.Process.Pid, nil, 0, nil); err != nil {
		t.Fatal(err)
	}
	if ch.over() {
		t.Error("it is over, says who cannot know any more")
	}
	if err := ch.kill(false); err == nil || !strings.HasPrefix(err.Error(), "kill: ") {
		t.Errorf("killing it: %v", err)
	}
	<-ch.reaped()
	if r := ch.result(); r.OK || r.ExitCode != -1 || !strings.HasPrefix(r.Err, "wait: ") {
		t.Errorf("result %+v", r)
	}
}
