package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"exazk/daemon"
	"exazk/zkstate"
)

const (
	configDir = "/etc/exazk"
	// reachWithin bounds the way to ZooKeeper: a stop of ExaBGP waits for it.
	reachWithin = 4 * time.Second
	// answerWithin bounds all requests of a command but those of a wait.
	answerWithin = 5 * time.Second
)

// admin is one run of a command that speaks to ZooKeeper. What it has to say goes to stderr, data to stdout.
type admin struct {
	cli      *cli.Context
	stdout   io.Writer
	stderr   io.Writer
	cfg      *daemon.Config
	node     string           // that is spoken to
	services []daemon.Service // that are spoken about, with that node's paths
	vip      string           // that is asked about; empty for all
	zk       *zkstate.Admin
	recorded map[string]bool // by service: the node had a status record at the beginning
}

// adminAction makes a command of what to do with a session. A signal ends its context.
func adminAction(stdout, stderr io.Writer, do func(context.Context, *admin) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		a, err := newAdmin(c, stdout, stderr, configDir)
		if err != nil {
			return usage(err)
		}
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		dialing, cancel := context.WithTimeout(ctx, reachWithin)
		defer cancel()
		if a.zk, err = zkstate.Dial(dialing, a.cfg.ZooKeeper.Hosts); err != nil {
			return interrupted(ctx, err)
		}
		defer a.zk.Close()
		return do(ctx, a)
	}
}

// interrupted puts a signal in the place of the error that it has caused.
func interrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return errInterrupted
	}
	return err
}

var errInterrupted = errors.New("interrupted")

func newAdmin(c *cli.Context, stdout, stderr io.Writer, dir string) (*admin, error) {
	if err := checkAdminFlags(c); err != nil {
		return nil, err
	}
	vip, err := vipAsked(c)
	if err != nil {
		return nil, err
	}
	cfg, err := adminConfig(c, dir)
	if err != nil {
		return nil, err
	}
	a := &admin{cli: c, stdout: stdout, stderr: stderr, cfg: cfg, node: cfg.Node, recorded: make(map[string]bool), vip: vip}
	switch {
	case c.Args().Len() > 1 || c.Args().Present() && !strings.Contains(c.Command.UsageText, "[NODE]") && c.Command.Name != "why":
		return nil, fmt.Errorf("unexpected argument %q; usage: %s", c.Args().Get(c.Args().Len()-1), c.Command.UsageText)
	case c.Args().Present() && c.Command.Name != "why":
		a.node = c.Args().First()
	}
	for _, name := range c.StringSlice("service") {
		if !slices.ContainsFunc(cfg.Services, func(s daemon.Service) bool { return s.Name == name }) {
			return nil, fmt.Errorf("--service: %q is not configured; remedy: name one of %s", name, strings.Join(serviceNames(cfg.Services), ", "))
		}
	}
	for i := range cfg.Services {
		if only := c.StringSlice("service"); len(only) > 0 && !slices.Contains(only, cfg.Services[i].Name) {
			continue
		}
		s, err := cfg.Services[i].OnNode(cfg.Node, a.node)
		if err != nil {
			return nil, err
		}
		a.services = append(a.services, s)
	}
	return a, nil
}

// checkAdminFlags finds flags that cannot be meant so.
func checkAdminFlags(c *cli.Context) error {
	switch {
	case c.IsSet("for") && c.Duration("for") < time.Second:
		return fmt.Errorf("--for: %v is too short; remedy: write a duration with a unit, such as 30m or 2h", c.Duration("for"))
	case c.IsSet("timeout") && c.Duration("timeout") <= 0:
		return fmt.Errorf("--timeout: %v is no time; remedy: write a duration with a unit, such as 30s", c.Duration("timeout"))
	case c.Command.Name == "enter" && c.IsSet("timeout") && !c.Bool("wait"):
		return errors.New("--timeout is that of --wait; remedy: give both")
	case c.Bool("undo") && slices.ContainsFunc([]string{"timeout", "force", "for", "reason"}, c.IsSet):
		return errors.New("--undo goes with no other option of a drain; remedy: leave the others out")
	}
	f := word("maintenance", c.String("reason"), c.Duration("for"))
	if n := len(encode(f)); n > zkstate.MaxFlag {
		return fmt.Errorf("--reason: too long: the maintenance node would have %d bytes, and exazk reads no more than %d; remedy: make it shorter", n, zkstate.MaxFlag)
	}
	return nil
}

// adminConfig reads the file, or the flags that the Python tool has for the same, or the only file in dir.
func adminConfig(c *cli.Context, dir string) (*daemon.Config, error) {
	file, given := c.String("config"), givenFlags(c)
	switch {
	case file != "" && len(given) > 0:
		return nil, fmt.Errorf("--config and %s are given together; remedy: remove one of the two", strings.Join(given, ", "))
	case len(given) > 0:
		return daemon.FlagsConfig(daemon.Flags{Name: c.String("name"), ZKHosts: c.StringSlice("zk-host"), PathService: c.String("zk-path-service"),
			PathMaintenance: c.String("zk-path-maintenance"), ZooKeeperOnly: true})
	case file == "":
		var err error
		if file, err = onlyConfig(dir); err != nil {
			return nil, err
		}
	}
	return daemon.LoadConfigAlone(file)
}

// onlyConfig finds the configuration where there is one only.
func onlyConfig(dir string) (string, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.toml"))
	switch {
	case err != nil:
		return "", fmt.Errorf("look for a configuration: %w", err)
	case len(files) == 0:
		return "", fmt.Errorf("which configuration? there is no *.toml in %s; remedy: give one with --config FILE", dir)
	case len(files) > 1:
		return "", fmt.Errorf("which configuration? %s has %s; remedy: give one with --config FILE", dir, strings.Join(files, ", "))
	}
	return files[0], nil
}

func serviceNames(services []daemon.Service) []string {
	var names []string
	for i := range services {
		names = append(names, services[i].Name)
	}
	return names
}

func (a *admin) say(format string, args ...any) { fmt.Fprintf(a.stderr, format+"\n", args...) }

// again is how to give a command to the same node about the same services.
func (a *admin) again(command string) string {
	words := strings.Fields("exazk " + command)
	if a.node != a.cfg.Node {
		words = append(words, a.node)
	}
	for _, name := range []string{"config", "zk-host", "name", "zk-path-service", "zk-path-maintenance", "service"} {
		values := a.cli.StringSlice(name)
		if len(values) == 0 && a.cli.String(name) != "" && a.cli.IsSet(name) {
			values = []string{a.cli.String(name)}
		}
		for _, v := range values {
			words = append(words, "--"+name, shellWord(v))
		}
	}
	return strings.Join(words, " ")
}

// shellWord quotes a word where a shell would not leave it alone.
func shellWord(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:,@", r)
	}
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !plain(r) }) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// who is the person who gave the command: sudo knows who was somebody else before.
func who() string {
	name := os.Getenv("SUDO_USER")
	if name == "" {
		if u, err := user.Current(); err == nil {
			name = u.Username
		}
	}
	host, _ := os.Hostname()
	return name + "@" + host
}

// word is what an operator says to a node, now.
func word(by, reason string, length time.Duration) daemon.Flag {
	f := daemon.Flag{By: by, Reason: reason, Who: who(), Since: time.Now().UTC().Truncate(time.Second)}
	if length > 0 {
		f.Until = f.Since.Add(length)
	}
	return f
}

// encode is a word as it lies in ZooKeeper, where people read it too: nothing in it is escaped for HTML.
func encode(f daemon.Flag) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(f); err != nil {
		panic("bug: " + err.Error())
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// told is what was said before, and when.
func told(n zkstate.Node) daemon.Flag {
	f := daemon.ParseFlag(n.Data)
	if f.Since.IsZero() {
		f.Since = n.Created.UTC().Truncate(time.Second)
	}
	return f
}

// describe is a word for people.
func describe(f daemon.Flag) string {
	text := "since " + f.Since.UTC().Format(time.RFC3339)
	if rest := f.String(); rest != "" {
		text += ", " + printable(rest)
	}
	return text
}

// put writes a word where there is none. One that is there already is replaced, unless keep wants it kept, and returned.
func (a *admin) put(ctx context.Context, at string, f daemon.Flag, keep func(daemon.Flag) bool) (before *daemon.Flag, kept bool, err error) {
	data := encode(f)
	for range 5 {
		if created, err := a.zk.Create(ctx, at, data); err != nil || created {
			return nil, false, err
		}
		n, found, err := a.zk.Get(ctx, at)
		switch {
		case err != nil:
			return nil, false, err
		case !found:
			continue
		case bytes.Equal(n.Data, data):
			return nil, false, nil // ours: the answer was lost with its connection
		}
		old := told(n)
		if keep(old) {
			return &old, true, nil
		}
		if set, err := a.zk.Set(ctx, at, data, n.Version); err != nil || set {
			return &old, false, err
		}
	}
	return nil, false, fmt.Errorf("write %q: it changes all the time; remedy: find out who else writes it", at)
}

// atPath groups the services by a path that they may share, in order.
func (a *admin) atPath(path func(*daemon.Service) string) (paths []string, names map[string]string) {
	names = make(map[string]string)
	for i := range a.services {
		s := &a.services[i]
		at := path(s)
		if names[at] != "" {
			names[at] += ", "
		} else {
			paths = append(paths, at)
		}
		names[at] += s.Name
	}
	return paths, names
}

func maintenancePath(s *daemon.Service) string { return s.MaintenancePath }
func failbackPath(s *daemon.Service) string    { return s.FailbackPath }
