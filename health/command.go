package health

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// killGrace is how long a killed check is waited for. It is reached only by a process that SIGKILL does not end, or by a
// system call that does not return.
const killGrace = time.Second

// Command passes when a program exits with status 0. Exactly one of Line and Args is given.
type Command struct {
	Line string   // run by /bin/sh -c
	Args []string // run without a shell: the program, by its whole path or looked for in PATH, and its arguments
}

func (c *Command) String() string {
	if len(c.Args) > 0 {
		return fmt.Sprintf("%q", c.Args)
	}
	return c.Line
}

// Validate implements Probe.
func (c *Command) Validate() error {
	var f faults
	switch {
	case len(c.Args) > 0 && c.Line != "":
		f.add("command", "both a line for the shell and a list of arguments; remedy: give one of the two")
	case len(c.Args) > 0 && c.Args[0] == "":
		f.add("command", "the first argument is empty; remedy: write the program there, such as [\"/usr/bin/true\"]")
	case len(c.Args) > 0 && strings.ContainsRune(c.Args[0], '/') && !filepath.IsAbs(c.Args[0]):
		f.add("command", "%q depends on the directory it is started in; remedy: write the whole path, from /", c.Args[0])
	case len(c.Args) == 0 && strings.TrimSpace(c.Line) == "":
		f.add("command", "no check; remedy: give a command that exits 0 while the service works, or \"true\" to announce without one")
	}
	for _, text := range append(slices.Clone(c.Args), c.Line) {
		f.text("command", text)
	}
	return f.err()
}

func (c *Command) prepare(o options) runner {
	argv := c.Args
	if len(argv) == 0 {
		argv = []string{"/bin/sh", "-c", c.Line}
	}
	return &commandRunner{options: o, start: func(env []string) (child, error) { return startProcess(argv, env) }}
}

// commandRunner runs a Command.
type commandRunner struct {
	options
	start func(env []string) (child, error)
	stuck child // killed, but not ended: no further run is started; nil otherwise
}

// Runner runs a command like a check, for who is no check: the same environment (but for EXAZK_CHECK and EXAZK_STATE), the same
// limits, and nothing left behind. It is for one goroutine.
type Runner struct{ runner *commandRunner }

// Runner makes one of a valid command. timeout bounds each run.
func (c *Command) Runner(timeout time.Duration) *Runner {
	return &Runner{c.prepare(options{timeout: timeout}).(*commandRunner)}
}

// Run runs the command to its end, or until its time is over or ctx is done: then it is killed. extra are KEY=value pairs that win
// over the daemon's environment; none may have a zero byte.
func (r *Runner) Run(ctx context.Context, extra []string) Result {
	return r.runner.once(ctx, environ(os.Environ(), extra))
}

// run is one run of a check.
func (c *commandRunner) run(ctx context.Context, state State) Result {
	return c.once(ctx, environ(os.Environ(), append(slices.Clone(c.env), "EXAZK_STATE="+state.String())))
}

// once is one run from its start to its end, or to the end of its time.
func (c *commandRunner) once(ctx context.Context, env []string) Result {
	if !c.unstuck() {
		return Result{ExitCode: -1, Err: "the run before was killed and has not ended"}
	}
	ch, err := c.start(env)
	if err != nil {
		return Result{ExitCode: -1, Err: err.Error()}
	}
	over := c.await(ctx, ch)
	killErr := ch.kill(!over || ctx.Err() != nil)
	if !over {
		return c.cutShort(ch, killErr)
	}
	if !reapedInTime(ch) { // output that somebody in a session of its own holds open is closed long before this
		c.stuck = ch
		return Result{ExitCode: -1, Err: "the check ended and could not be reaped"}
	}
	return ch.result() // killErr does not matter here: it says that there was nothing left that we may kill
}

// await waits for the end of ch, of its time or of ctx. It returns whether ch ended by itself.
func (c *commandRunner) await(ctx context.Context, ch child) bool {
	timeout := time.NewTimer(c.timeout)
	defer timeout.Stop()
	select {
	case <-ch.exited():
	case <-timeout.C:
	case <-ctx.Done():
	}
	// Asked again, because a process that was stopped (SIGSTOP, a paused VM) finds both the end and the timeout in its past.
	return ch.over()
}

// cutShort is the result of a run that was killed at its timeout.
func (c *commandRunner) cutShort(ch child, killErr error) Result {
	r := Result{ExitCode: -1, TimedOut: true, Err: fmt.Sprintf("timed out after %v", c.timeout)}
	if reapedInTime(ch) {
		r.Output = ch.result().Output
		return r
	}
	c.stuck = ch
	r.Err += ", and does not end on SIGKILL"
	if killErr != nil {
		r.Err += ": " + killErr.Error()
	}
	return r
}

// reapedInTime waits for the end of a killed child, for at most killGrace.
func reapedInTime(ch child) bool {
	grace := time.NewTimer(killGrace)
	defer grace.Stop()
	select {
	case <-ch.reaped():
		return true
	case <-grace.C:
		return false
	}
}

// unstuck says whether a new run may be started.
func (c *commandRunner) unstuck() bool {
	if c.stuck == nil {
		return true
	}
	select {
	case <-c.stuck.reaped():
		c.stuck = nil
		return true
	default:
		return false
	}
}

// hint tells what to do about the two exit codes that a shell uses for itself (POSIX, Shell Command Language, 2.8.2).
func hint(code int) string {
	switch code {
	case 126:
		return fmt.Sprintf("the command cannot be executed: chmod +x it, and see that user id %d may enter its directory",
			os.Geteuid())
	case 127:
		return fmt.Sprintf("the command was not found: give its whole path (PATH is %q, user id %d)",
			os.Getenv("PATH"), os.Geteuid())
	}
	return ""
}

// environ is the environment of a check: see the package documentation.
func environ(own, extra []string) []string {
	const leaked = "exabgp" // ExaBGP's variables, "exabgp_cli_pipe" and "exabgp.api.ack" alike
	env := make([]string, 0, len(own)+len(extra)+1)
	for _, kv := range own {
		if len(kv) >= len(leaked) && strings.EqualFold(kv[:len(leaked)], leaked) {
			continue
		}
		env = append(env, kv)
	}
	env = append(env, "PWD=/")
	return append(env, extra...) // os/exec takes the last of two equal names
}
