package health

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"runtime/debug"
	"strings"
	"time"
	"unicode/utf8"
)

// Probe is one kind of check, as the configuration gives it: *Command, *HTTP, *TCP, *DNS, *File or *Systemd.
type Probe interface {
	// Validate returns nil, or an error that joins a *Fault for each thing that cannot work. It reads no file.
	Validate() error
	// String is what the log says about the probe, on one line and without secrets.
	String() string
	// prepare returns what runs the probe. It panics where Validate would have found a fault.
	prepare(o options) runner
}

// options is what a runner has to know besides its probe.
type options struct {
	timeout  time.Duration
	env      []string               // for commands
	panicked func(p any, at []byte) // told of a panic that a run was saved from
}

// runner runs one probe, one run at a time.
type runner interface {
	// run returns when the run or its time is over, or soon after ctx is done; its result then means nothing.
	run(ctx context.Context, state State) Result
}

// Fault is one thing that is wrong with a probe.
type Fault struct {
	Field string // the key in the table of the probe, such as "url"
	Text  string // what is wrong, and the remedy
}

func (f *Fault) Error() string { return f.Field + ": " + f.Text }

// Faults are those that Validate's error joins.
func Faults(err error) []*Fault {
	var all []*Fault
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, err := range joined.Unwrap() {
			all = append(all, Faults(err)...)
		}
		return all
	}
	if f, ok := errors.AsType[*Fault](err); ok {
		all = append(all, f)
	}
	return all
}

// faults collects what is wrong with a probe.
type faults []error

func (f *faults) add(field, format string, args ...any) {
	*f = append(*f, &Fault{Field: field, Text: fmt.Sprintf(format, args...)})
}

func (f *faults) err() error { return errors.Join(*f...) }

// text refuses what no file of a configuration should hold.
func (f *faults) text(field, s string) {
	switch {
	case !utf8.ValidString(s):
		f.add(field, "%q is not UTF-8; remedy: write it in UTF-8", s)
	case strings.ContainsRune(s, 0):
		f.add(field, "%q contains a NUL byte; remedy: remove it", s)
	}
}

func (f *faults) pattern(field, expr string) {
	if _, err := regexp.Compile(expr); err != nil {
		f.add(field, "%v; remedy: write a regular expression as Go's regexp package reads it (RE2), with \\ before what is meant as it is", err)
	}
}

// source checks the address that a probe connects from. Host is the other end, a name or an address.
func (f *faults) source(bind netip.Addr, host string) {
	if !bind.IsValid() {
		return
	}
	if bind.IsUnspecified() || bind.IsMulticast() {
		f.add("bind", "%v is no address of a node; remedy: write the VIP or another address of this node, or leave bind out", bind)
		return
	}
	if to, err := netip.ParseAddr(host); err == nil && to.Unmap().Is4() != bind.Unmap().Is4() {
		f.add("bind", "nothing at %v can be reached from %v; remedy: write two IPv4 or two IPv6 addresses", to, bind)
	}
}

// compiled is the pattern that Validate found to be one; nil for an empty one.
func compiled(expr string) *regexp.Regexp {
	if expr == "" {
		return nil
	}
	re, err := regexp.Compile(expr)
	if err != nil {
		panic(fmt.Sprintf("bug: health: a pattern that was not validated: %v", err))
	}
	return re
}

// looker runs a probe that is a function. The function returns soon after its context is done and leaves nothing behind,
// but for a system call that cannot be ended, such as a stat(2) on a dead NFS server.
type looker struct {
	options
	// look returns what it found, or why that will not do.
	look  func(ctx context.Context) (found string, err error)
	stuck chan sight // where the run that was given up on will end; nil otherwise
	told  bool       // of a panic
}

// sight is how one call of look ended.
type sight struct {
	found string
	err   error
	panic any    // nil where there was none
	at    []byte // the stack of the panic
}

func (l *looker) run(ctx context.Context, _ State) Result {
	if l.stuck != nil {
		select {
		case <-l.stuck:
			l.stuck = nil
		default:
			return Result{ExitCode: -1, Err: "the run before was given up and has not ended"}
		}
	}
	limited, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	done := make(chan sight, 1) // 1: whoever was given up on can still end
	go func() { done <- guarded(limited, l.look) }()
	select {
	case s := <-done:
		return l.result(limited, s)
	case <-limited.Done():
	}
	grace := time.NewTimer(killGrace)
	defer grace.Stop()
	select {
	case s := <-done:
		return l.result(limited, s)
	case <-grace.C:
		l.stuck = done
		return Result{ExitCode: -1, TimedOut: true, Err: fmt.Sprintf("timed out after %v, and does not end", l.timeout)}
	}
}

// guarded keeps a panic in look, or in a library that it calls, from ending the daemon. One on a goroutine of the library's
// own is out of reach.
func guarded(ctx context.Context, look func(context.Context) (string, error)) (s sight) {
	defer func() {
		if p := recover(); p != nil {
			s = sight{panic: p, at: debug.Stack()}
		}
	}()
	s.found, s.err = look(ctx)
	return s
}

func (l *looker) result(limited context.Context, s sight) Result {
	switch deadline, _ := limited.Deadline(); {
	case s.panic != nil:
		if !l.told {
			l.told = true
			l.panicked(s.panic, s.at)
		}
		return Result{ExitCode: -1, Err: printable(fmt.Sprintf("bug: panic: %v", s.panic))}
	case s.err == nil:
		return Result{OK: true, Output: printable(s.found)}
	case !time.Now().Before(deadline): // whatever else the error says
		return Result{ExitCode: -1, TimedOut: true, Err: fmt.Sprintf("timed out after %v", l.timeout), Output: printable(s.err.Error())}
	default:
		return Result{ExitCode: -1, Output: printable(s.err.Error())}
	}
}
