// Command labctl builds, shows and takes down the lab of package exazk/vagrant/lab. "make lab" runs it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"exazk/vagrant/lab"
)

const usage = `Usage: labctl [-prefix NAME] [-dir DIR] COMMAND

  up                   build the lab and wait until all VIPs are announced
  demo                 show it, then one failure and one return of lb1
  down                 take it down, whatever state it is in
  status               hosts, daemons, routes of r0, who answers
  watch                print r0's paths to the VIPs whenever they change
  enter HOST [CMD...]  a shell, or a command, on r0..r3, lb1..lb3, zk or client
  web HOST start|stop  the web server of a load balancer, which exazk checks
  zk create|delete|get|ls PATH
                       ZooKeeper, as an operator; for example
                       labctl zk create /exabgp/maintenance/apex/node1

Options of "up": -demo goes on with the demonstration; -standby has the backups announce all the time; -exazk,
-web, -probe (programs), -configs, -bird (directories), each with a default below the current directory: exazk, bin/web,
bin/probe, configs, vagrant/bird.
`

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// errUsage is returned for a command line that cannot be understood.
var errUsage = errors.New("see labctl -h")

func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := dispatch(ctx, args, stdout, stderr)
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		fmt.Fprintf(stderr, "labctl: %v\n", err)
		return 2
	}
	fmt.Fprintf(stderr, "labctl: %v\n", err)
	return 1
}

// control is what the commands share.
type control struct {
	prefix, dir string
	out, err    io.Writer
}

func dispatch(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	c := control{out: stdout, err: stderr}
	f := flag.NewFlagSet("labctl", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() { fmt.Fprint(stderr, usage) }
	f.StringVar(&c.prefix, "prefix", lab.DefaultPrefix, "")
	f.StringVar(&c.dir, "dir", "", "")
	if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
		return err
	} else if err != nil {
		return fmt.Errorf("%w; %w", err, errUsage)
	}
	if c.dir == "" {
		c.dir = lab.DefaultDir(c.prefix)
	}
	commands := map[string]func(context.Context, []string) error{
		"up": c.up, "demo": c.demo, "down": c.down, "status": c.status, "watch": c.watch, "enter": c.enter, "web": c.web, "zk": c.zk,
	}
	do, ok := commands[f.Arg(0)]
	if f.NArg() == 0 {
		fmt.Fprint(stderr, usage)
		return fmt.Errorf("which command? %w", errUsage)
	}
	if !ok {
		return fmt.Errorf("unknown command %q; %w", f.Arg(0), errUsage)
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("the lab is made of network namespaces and mounts, which only root may make and enter; run it with sudo")
	}
	return do(ctx, f.Args()[1:])
}

func (c control) open() (*lab.Lab, error) {
	l, err := lab.Open(c.dir, c.err)
	if errors.Is(err, lab.ErrDown) {
		err = fmt.Errorf("%w\nhint: \"make lab\" builds the one in %s; -prefix and -dir name another", err, lab.DefaultDir(lab.DefaultPrefix))
	}
	return l, err
}

func (c control) up(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("up", flag.ContinueOnError)
	f.SetOutput(c.err)
	opt := lab.Options{Prefix: c.prefix, Dir: c.dir, Out: c.err}
	f.StringVar(&opt.ExazkBinary, "exazk", "exazk", "the daemon")
	f.StringVar(&opt.WebBinary, "web", "bin/web", "the web server of the load balancers")
	f.StringVar(&opt.ProbeBinary, "probe", "bin/probe", "the prober of the client")
	f.StringVar(&opt.ConfigDir, "configs", "configs", "directory with the ExaBGP and exazk files")
	f.StringVar(&opt.BirdDir, "bird", "vagrant/bird", "directory with the BIRD files")
	f.BoolVar(&opt.Standby, "standby", false, "backups announce all the time")
	demo := f.Bool("demo", false, "go on with the demonstration")
	if err := f.Parse(args); err != nil {
		return fmt.Errorf("%w; %w", err, errUsage)
	}
	for _, path := range []*string{&opt.ExazkBinary, &opt.WebBinary, &opt.ProbeBinary, &opt.ConfigDir, &opt.BirdDir} {
		abs, err := filepath.Abs(*path)
		if err != nil {
			return err
		}
		*path = abs
	}
	l, err := lab.Up(ctx, opt)
	if errors.Is(err, lab.ErrUp) {
		return fmt.Errorf("%w\nhint: \"make lab-down\" or \"labctl -prefix %s -dir %s down\" takes it down", err, c.prefix, c.dir)
	}
	if err != nil {
		return err
	}
	if err := c.waitSteady(ctx, l); err != nil {
		return errors.Join(fmt.Errorf("%w\n%s", err, balancerLogs(l)), l.Down())
	}
	if *demo {
		if err := c.demonstrate(ctx, l); err != nil {
			return errors.Join(err, l.Down())
		}
	}
	return nil
}

// balancerLogs is the end of what ExaBGP and exazk said on each load balancer.
func balancerLogs(l *lab.Lab) string {
	text := ""
	for _, lb := range lab.Balancers() {
		text += fmt.Sprintf("-- %s, end of exabgp.log:\n%s\n", lb, l.Host(lb).LogTail(lab.DaemonExaBGP, 15))
	}
	return text
}

func (c control) down(context.Context, []string) error {
	if err := lab.Down(c.prefix, c.dir); err != nil {
		return err
	}
	fmt.Fprintln(c.err, "lab: down")
	return nil
}

func (c control) enter(_ context.Context, args []string) error {
	l, err := c.open()
	if err != nil {
		return err
	}
	if len(args) == 0 || !slices.Contains(l.Hosts(), args[0]) {
		return fmt.Errorf("enter which host? One of %s; %w", strings.Join(l.Hosts(), ", "), errUsage)
	}
	argv := args[1:]
	if len(argv) == 0 {
		argv = []string{"bash"}
	}
	return l.Host(args[0]).Enter(argv...)
}

func (c control) web(ctx context.Context, args []string) error {
	l, err := c.open()
	if err != nil {
		return err
	}
	if len(args) != 2 || !slices.Contains(lab.Balancers(), args[0]) {
		return fmt.Errorf("want: web lb1|lb2|lb3 start|stop; %w", errUsage)
	}
	switch args[1] {
	case "start":
		return l.StartWeb(ctx, args[0])
	case "stop":
		return l.StopWeb(args[0])
	}
	return fmt.Errorf("unknown action %q; %w", args[1], errUsage)
}

func (c control) zk(_ context.Context, args []string) error {
	l, err := c.open()
	if err != nil {
		return err
	}
	if len(args) != 2 {
		return fmt.Errorf("want: zk create|delete|get|ls PATH; %w", errUsage)
	}
	action, path := args[0], args[1]
	switch action {
	case "create":
		return l.ZKCreate(path, nil)
	case "delete":
		return l.ZKDelete(path)
	case "get":
		data, owner, err := l.ZKGet(path)
		if err == nil {
			fmt.Fprintf(c.err, "ephemeral owner: %#x\n", uint64(owner))
			fmt.Fprintf(c.out, "%s\n", data)
		}
		return err
	case "ls":
		names, err := l.ZKChildren(path)
		slices.Sort(names)
		for _, name := range names {
			fmt.Fprintln(c.out, name)
		}
		return err
	}
	return fmt.Errorf("unknown action %q; %w", action, errUsage)
}
