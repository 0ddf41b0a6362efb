package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"exazk/vagrant/lab"
)

// Limits of what the demonstration waits for. A start needs the checks' rise and the claims; a failure the checks' fall; a
// return waits out the overlap. All are a few seconds; the rest is for a slow machine.
const (
	steadyLimit = 60 * time.Second
	changeLimit = 30 * time.Second
)

// waitSteady waits for the steady state and says every time that something else is missing.
func (c control) waitSteady(ctx context.Context, l *lab.Lab) error {
	return c.waitFor(ctx, steadyLimit, func(ctx context.Context) error { return l.Steady(ctx) })
}

func (c control) waitFor(ctx context.Context, limit time.Duration, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not within %v", limit))
	defer cancel()
	said, start := "", time.Now()
	for {
		err := check(ctx)
		if err == nil {
			fmt.Fprintf(c.err, "lab: reached after %.1f s\n", time.Since(start).Seconds())
			return nil
		}
		if text := strings.ReplaceAll(err.Error(), "\n", ", "); text != said && ctx.Err() == nil {
			fmt.Fprintf(c.err, "lab: waiting: %s\n", text)
			said = text
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %s", context.Cause(ctx), said)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (c control) show(ctx context.Context, l *lab.Lab) error {
	routes, err := l.Birdc("r0", lab.ShowVIPs)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.out, "\nbird on r0> %s\n%s\n\nThe client asks each VIP for its page:\n%s", lab.ShowVIPs, strings.TrimSpace(routes), l.Answers(ctx))
	return nil
}

func (c control) status(ctx context.Context, _ []string) error {
	l, err := c.open()
	if err != nil {
		return err
	}
	for _, s := range l.Status() {
		fmt.Fprintf(c.out, "%-7s %-10s %s\n", s.Host, s.Daemon, s.State)
	}
	return c.show(ctx, l)
}

// watch prints the paths to the VIPs and who answers, once at the start and then at each change.
func (c control) watch(ctx context.Context, _ []string) error {
	l, err := c.open()
	if err != nil {
		return err
	}
	for said := ""; ; {
		now, err := c.summary(ctx, l)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if now != said {
			fmt.Fprintf(c.out, "%s\n%s", time.Now().Format("15:04:05.000"), now)
			said = now
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (c control) summary(ctx context.Context, l *lab.Lab) (string, error) {
	t, err := l.Routes("r0")
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, vip := range lab.VIPs() {
		fmt.Fprintf(&b, "  %s", vip)
		paths := t.For(vip)
		for _, p := range paths {
			fmt.Fprintf(&b, "  by %s MED %d", p.Via, p.MED)
			if p.Best && len(paths) > 1 {
				b.WriteString(" (in use)")
			}
		}
		if len(paths) == 0 {
			b.WriteString("  no route")
		}
		if who, err := l.Ask(ctx, vip); err != nil {
			b.WriteString("  -> nobody answers\n")
		} else {
			fmt.Fprintf(&b, "  -> %s answers\n", who)
		}
	}
	return b.String(), nil
}

func (c control) demo(ctx context.Context, _ []string) error {
	l, err := c.open()
	if err != nil {
		return err
	}
	return c.demonstrate(ctx, l)
}

// demonstrate shows the lab, the failure of lb1's web server and its return.
func (c control) demonstrate(ctx context.Context, l *lab.Lab) error {
	c.title("The steady state: every VIP is announced by its owner")
	if err := c.waitSteady(ctx, l); err != nil {
		return err
	}
	if err := c.show(ctx, l); err != nil {
		return err
	}
	c.title("lb1's web server stops: its check fails, it withdraws, the others take 10.20.255.1 over")
	if err := l.StopWeb("lb1"); err != nil {
		return err
	}
	if err := c.waitFor(ctx, changeLimit, func(ctx context.Context) error { return takenOver(ctx, l) }); err != nil {
		return fmt.Errorf("%w\n%s", err, balancerLogs(l))
	}
	if err := c.show(ctx, l); err != nil {
		return err
	}
	c.title("lb1's web server starts: lb1 announces and claims its VIP, a second later the others withdraw")
	if err := l.StartWeb(ctx, "lb1"); err != nil {
		return err
	}
	if err := c.waitSteady(ctx, l); err != nil {
		return fmt.Errorf("%w\n%s", err, balancerLogs(l))
	}
	if err := c.show(ctx, l); err != nil {
		return err
	}
	c.hints(l)
	return nil
}

func (c control) title(text string) {
	fmt.Fprintf(c.out, "\n%s\n%s\n", text, strings.Repeat("=", len(text)))
}

// takenOver says what is missing until both other load balancers announce lb1's VIP and one of them answers.
func takenOver(ctx context.Context, l *lab.Lab) error {
	vip := lab.VIPs()[0]
	t, err := l.Routes("r0")
	if err != nil {
		return err
	}
	paths := t.For(vip)
	if len(paths) != 2 || paths[0].Via == "r1" || paths[1].Via == "r1" {
		return fmt.Errorf("%s is not announced by lb2 and lb3 alone", vip)
	}
	who, err := l.Ask(ctx, vip)
	if err != nil {
		return err
	}
	if who == "lb1" {
		return fmt.Errorf("%s is still answered by lb1", vip)
	}
	return nil
}

func (c control) hints(l *lab.Lab) {
	ctl := "bin/labctl"
	if c.prefix != lab.DefaultPrefix {
		ctl += " -prefix " + c.prefix
	}
	if c.dir != lab.DefaultDir(c.prefix) {
		ctl += " -dir " + c.dir
	}
	down := "make lab-down"
	if ctl != "bin/labctl" {
		down = ctl + " down"
	}
	fmt.Fprintf(c.out, `
The lab stays up. Things to do, as root:

  r0's paths to the VIPs, at every change (leave it running in another terminal)
    %[1]s watch
  a check that fails; "start" ends it
    %[1]s web lb1 stop
  drain lb1 for maintenance; "zk delete" ends it
    %[1]s zk create /exabgp/maintenance/apex/node1
  the claims
    %[1]s zk ls /exabgp/service/apex
  a shell on lb1; also on r0..r3, lb2, lb3, zk and client
    %[1]s enter lb1
  r0's table in full
    %[1]s enter r0 birdc show route all
  what ExaBGP and exazk say
    tail -f %[2]s/lb1/exabgp.log
  the end of the lab
    %[3]s
`, ctl, l.Dir(), down)
}
