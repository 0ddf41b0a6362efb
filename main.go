// Command exazk keeps a service's virtual IPs reachable over BGP. It runs as a process of ExaBGP and coordinates with
// its peers through ZooKeeper; see README.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"exazk/daemon"
)

// Exit codes.
const (
	exitOK         = 0 // done as asked: stopped, ExaBGP gone, checked, converted, drained
	exitError      = 1 // something failed while running; ZooKeeper is out of reach; interrupted
	exitUsage      = 2 // the command line or a configuration file is wrong
	exitRefused    = 3 // a drain that would leave VIPs to nobody
	exitNotDrained = 4 // the node still announces VIPs at the end of the time, or it cannot be seen whether it does
)

const exitCodes = "Exit codes: 0 done; 1 failed, for one because ZooKeeper is out of reach; 2 command line or configuration wrong;\n" +
	"3 refused, as no other node could take over; 4 not drained in time and still draining, or not to be seen.\n" +
	"\"exazk status\" has codes of its own: see its --help."

// version is set by the Makefile from git; a plain "go build" leaves it to the build information.
var version string

func main() {
	os.Exit(run(os.Args, os.Stdin, os.Stdout, os.Stderr))
}

// run is the whole program but for the exit itself. stdout carries commands for ExaBGP, or the data that a subcommand
// was asked for, and nothing else.
func run(args []string, stdin *os.File, stdout, stderr io.Writer) int {
	app := newApp(stdin, stdout, stderr)
	err := app.Run(append(args[:1:1], flagsFirst(pythonArgs(args[1:]))...))
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, new(usageError)):
		say(err, stdin, stderr)
		return exitUsage
	case errors.As(err, new(coded)):
		c, _ := errors.AsType[coded](err)
		if c.error != nil {
			fmt.Fprintf(stderr, "exazk: %v\n", err)
		}
		return c.code
	default:
		say(err, stdin, stderr)
		return exitError
	}
}

// say prints a fault, and where it is the daemon's waits a moment for the sake of ExaBGP.
func say(err error, stdin *os.File, stderr io.Writer) {
	fmt.Fprintf(stderr, "exazk: %v\n", err)
	if errors.As(err, new(daemonError)) {
		pauseForExaBGP(stdin, stderr)
	}
}

// coded is an error with an exit code of its own. Without an error, the code says what was printed already.
type coded struct {
	code int
	error
}

// usageError is a fault that the person who wrote the command line or the configuration can mend.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// daemonError is a fault of the daemon itself, not of a subcommand, that shows right after the start.
type daemonError struct{ error }

func (e daemonError) Unwrap() error { return e.error }

func usage(err error) error       { return usageError{err} }
func daemonUsage(err error) error { return usageError{daemonError{err}} }

func newApp(stdin *os.File, stdout, stderr io.Writer) *cli.App {
	cli.VersionPrinter = func(c *cli.Context) { fmt.Fprintf(c.App.Writer, "exazk %s\n", c.App.Version) }
	return &cli.App{
		Name:            "exazk",
		Usage:           "keep a service's virtual IPs reachable over BGP, as a process of ExaBGP",
		UsageText:       "exazk --config FILE\nexazk --name NAME --auth-ip IP --non-auth-ip IP … --local-check CMD --zk-host HOST …\nexazk check --config FILE\nexazk reload|check-now|restart …\nexazk convert OLD.yml\nexazk maintenance enter|leave|list …\nexazk drain …\nexazk failback …\nexazk status|why|history …",
		Description:     exitCodes,
		Version:         versionText(),
		HideHelpCommand: true,
		Writer:          stderr, // stdout is a BGP command channel
		ErrWriter:       stderr,
		ExitErrHandler:  func(*cli.Context, error) {}, // run decides about the exit code
		OnUsageError: func(_ *cli.Context, err error, _ bool) error {
			return daemonUsage(fmt.Errorf("%w; remedy: \"exazk --help\" lists every option", err))
		},
		Flags:  daemonFlags(),
		Action: func(c *cli.Context) error { return daemonAction(c, stdin, stdout, stderr) },
		Commands: append(slices.Concat(adminCommands(stdout, stderr), viewCommands(stdout, stderr), tellCommands(stderr)), []*cli.Command{
			completeCommand(stdout),
			{
				Name: "check", Usage: "validate a configuration file and print what is in force", UsageText: "exazk check --config FILE",
				Flags:        []cli.Flag{&cli.StringFlag{Name: "config", Aliases: []string{"f"}, Usage: "validate `FILE`"}},
				Action:       func(c *cli.Context) error { return checkAction(c, stdout) },
				OnUsageError: subcommandUsage,
			},
			{
				Name: "convert", Usage: "turn the Python tool's YAML file into this tool's TOML", UsageText: "exazk convert OLD.yml > NEW.toml",
				Action:       func(c *cli.Context) error { return convertAction(c, stdout) },
				OnUsageError: subcommandUsage,
			},
		}...),
	}
}

func subcommandUsage(c *cli.Context, err error, _ bool) error {
	return usage(fmt.Errorf("%w; usage: %s", err, c.Command.UsageText))
}

// daemonFlags are those of the Python tool, word for word, in its groups.
func daemonFlags() []cli.Flag {
	const logging, zookeeper, check, advertising = "logging", "ZooKeeper", "local check", "advertising"
	return []cli.Flag{
		&cli.StringFlag{Name: "config", Aliases: []string{"f"}, Usage: "read the configuration from `FILE`; not together with the flags of a service"},
		&cli.BoolFlag{Name: "debug", Aliases: []string{"d"}, Category: logging, Usage: "log more, and to stderr instead of syslog"},
		&cli.BoolFlag{Name: "silent", Aliases: []string{"s"}, Category: logging, Usage: "do not log to stderr"},
		&cli.BoolFlag{Name: "no-syslog", Category: logging, Usage: "do not log to syslog"},
		&cli.StringFlag{Name: "syslog-facility", Aliases: []string{"sF"}, Category: logging, Usage: "log to syslog as `FACILITY`; without a value daemon"},
		&cli.StringSliceFlag{Name: "zk-host", Aliases: []string{"zH", "zk-hosts"}, Category: zookeeper, Usage: "a ZooKeeper server, `HOST` or HOST:PORT; repeat it for each"},
		&cli.StringFlag{Name: "zk-path-service", Aliases: []string{"zPS"}, Category: zookeeper, Usage: "the `KEY` in ZooKeeper that holds the claims (default: /exabgp/service/NAME)"},
		&cli.StringFlag{Name: "zk-path-maintenance", Aliases: []string{"zPM"}, Category: zookeeper, Usage: "the `KEY` in ZooKeeper that drains this node while it exists (default: /exabgp/maintenance/NAME/NODE)"},
		&cli.StringFlag{Name: "local-check", Aliases: []string{"c"}, Category: check, Usage: "run `CMD` by sh -c; the service is healthy while it exits 0"},
		&cli.StringFlag{Name: "name", Aliases: []string{"n"}, Category: advertising, Usage: "the `NAME` of the service"},
		&cli.StringSliceFlag{Name: "auth-ip", Aliases: []string{"A"}, Category: advertising, Usage: "a VIP `IP` that this node is authoritative for; may be repeated"},
		&cli.StringSliceFlag{Name: "non-auth-ip", Aliases: []string{"N"}, Category: advertising, Usage: "a VIP `IP` that this node backs up; may be repeated"},
	}
}

var serviceFlags = []string{"zk-host", "zk-path-service", "zk-path-maintenance", "local-check", "name", "auth-ip", "non-auth-ip"}

func daemonAction(c *cli.Context, stdin *os.File, stdout, stderr io.Writer) error {
	cfg, err := daemonConfig(c)
	if err != nil {
		return daemonUsage(err)
	}
	started := time.Now()
	name, load := cfg.Services[0].Name, func() (*daemon.Config, error) { return daemonConfig(c) }
	if file := c.String("config"); file != "" {
		name = recordName(file)
	} else {
		load = nil
	}
	if err = runDaemon(cfg, load, name, stdin, stdout, stderr); err != nil && time.Since(started) < faultPause {
		err = daemonError{err} // it will fail again when ExaBGP starts it again
	}
	return err
}

// daemonConfig reads the file or the flags. Flags of logging go over the file; those of a service do not mix with it.
func daemonConfig(c *cli.Context) (*daemon.Config, error) {
	if c.Args().Present() {
		return nil, fmt.Errorf("unexpected argument %q; remedy: \"exazk --help\" lists every option and command", c.Args().First())
	}
	var cfg *daemon.Config
	var err error
	if given := givenFlags(c); c.String("config") != "" {
		if len(given) > 0 {
			return nil, fmt.Errorf("--config and %s are given together; the file would win and the flags be ignored, as in the Python tool; remedy: remove one of the two", strings.Join(given, ", "))
		}
		cfg, err = daemon.LoadConfig(c.String("config"))
	} else if len(given) == 0 {
		return nil, errors.New("nothing to do: neither a file nor a service is given; remedy: exazk --config FILE, or \"exazk --help\"")
	} else {
		cfg, err = daemon.FlagsConfig(daemon.Flags{
			Name: c.String("name"), AuthIPs: c.StringSlice("auth-ip"), NonAuthIPs: c.StringSlice("non-auth-ip"),
			LocalCheck: c.String("local-check"), ZKHosts: c.StringSlice("zk-host"),
			PathService: c.String("zk-path-service"), PathMaintenance: c.String("zk-path-maintenance"),
		})
	}
	if err != nil {
		return nil, err
	}
	return cfg, overrideLogging(c, &cfg.Log)
}

func givenFlags(c *cli.Context) []string {
	var given []string
	for _, name := range serviceFlags {
		if c.IsSet(name) {
			given = append(given, "--"+name)
		}
	}
	return given
}

func overrideLogging(c *cli.Context, l *daemon.LogConfig) error {
	if c.IsSet("syslog-facility") {
		l.Syslog, l.SyslogFacility = true, strings.ToLower(c.String("syslog-facility"))
		if _, ok := syslogFacility(l.SyslogFacility); !ok {
			return fmt.Errorf("--syslog-facility: %q is not known; remedy: write daemon, user or local0 to local7", c.String("syslog-facility"))
		}
	}
	if c.Bool("debug") {
		l.Level, l.Syslog = "debug", false
	}
	if c.Bool("no-syslog") {
		l.Syslog = false
	}
	l.Silent = c.Bool("silent")
	return nil
}

func checkAction(c *cli.Context, stdout io.Writer) error {
	file := c.String("config")
	if file == "" {
		file = c.Args().First()
	}
	if file == "" || c.Args().Len() > 1 {
		return usage(errors.New("which file? usage: exazk check --config FILE"))
	}
	cfg, err := daemon.LoadConfig(file)
	if err != nil {
		return usage(err)
	}
	_, err = fmt.Fprint(stdout, cfg.Render())
	return err
}

func versionText() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}

// faultPause keeps a process that cannot start from starting more than five times within 64 s, which would end ExaBGP
// (3.4, 4.2 and 5.0; main gives the process up). Until then ExaBGP keeps the routes of the life before.
const faultPause = 15 * time.Second

// pauseForExaBGP delays the exit after a fault, unless a person started us or nobody is there any more.
func pauseForExaBGP(stdin *os.File, stderr io.Writer) {
	if term.IsTerminal(int(stdin.Fd())) {
		return
	}
	gone := make(chan struct{})
	go func() { // not waited for: a read of an inherited pipe cannot be interrupted
		_, _ = io.Copy(io.Discard, stdin)
		close(gone)
	}()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	timer := time.NewTimer(faultPause)
	defer timer.Stop()
	select {
	case <-gone:
		return
	case <-time.After(200 * time.Millisecond):
		fmt.Fprintf(stderr, "exazk: waiting %v before the exit, so that being started again and again does not end ExaBGP\n", faultPause)
	}
	select {
	case <-gone:
	case <-ctx.Done():
	case <-timer.C:
	}
}
