package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// dropInPath is where the sample drop-in lies on a load balancer, as on one with systemd.
const dropInPath = "/etc/systemd/system/exabgp.service.d/exazk.conf"

// unit is what a drop-in says about starting and stopping, in the words of systemd.service(5) and systemd.kill(5).
type unit struct {
	startPre, startPost, stop []unitCommand
	killMode                  string
	timeoutStop               time.Duration
}

// unitCommand is one line of ExecStop= and the like.
type unitCommand struct {
	argv    []string
	mayFail bool // "-" before the program
}

func (c unitCommand) String() string { return strings.Join(c.argv, " ") }

// parseUnit reads the section [Service] of a unit file. What systemd would do with the rest is not asked here.
func parseUnit(text string) (unit, error) {
	u := unit{killMode: "control-group", timeoutStop: 90 * time.Second} // the defaults
	section := ""
	for _, line := range unitLines(text) {
		if strings.HasPrefix(line, "[") {
			section = line
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok {
			return u, fmt.Errorf("%q: no key", line)
		}
		if section != "[Service]" {
			continue
		}
		if err := u.set(strings.TrimSpace(key), strings.TrimSpace(value)); err != nil {
			return u, fmt.Errorf("%q: %w", line, err)
		}
	}
	return u, nil
}

// unitLines joins what a backslash continues and leaves comments out, those between continued lines too.
func unitLines(text string) []string {
	var lines []string
	joined := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") {
			continue
		}
		if before, ok := strings.CutSuffix(line, `\`); ok {
			joined += before + " "
			continue
		}
		if joined += line; joined != "" {
			lines = append(lines, joined)
		}
		joined = ""
	}
	return lines
}

func (u *unit) set(key, value string) (err error) {
	switch key {
	case "ExecStartPre":
		u.startPre, err = addCommand(u.startPre, value)
	case "ExecStartPost":
		u.startPost, err = addCommand(u.startPost, value)
	case "ExecStop":
		u.stop, err = addCommand(u.stop, value)
	case "KillMode":
		u.killMode = value
	case "TimeoutStopSec":
		if _, bare := strconv.Atoi(value); bare == nil {
			value += "s"
		}
		u.timeoutStop, err = time.ParseDuration(value)
	}
	return err
}

// addCommand adds a line to a list; an empty one empties it.
func addCommand(list []unitCommand, value string) ([]unitCommand, error) {
	if value == "" {
		return nil, nil
	}
	var c unitCommand
	if value, c.mayFail = strings.CutPrefix(value, "-"); strings.ContainsAny(value[:min(1, len(value))], "@:+!|-") {
		return nil, errors.New("a prefix other than \"-\" is not known here")
	}
	var err error
	if c.argv, err = unitWords(value); err == nil && len(c.argv) == 0 {
		err = errors.New("no program")
	}
	return append(list, c), err
}

// unitWords splits a command line as systemd does: at blanks, but not between quotes, which do not become part of a word.
// There is no escape here other than "$$" and "%%", which expand resolves.
func unitWords(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	var quote rune
	inWord := false
	for _, r := range line {
		switch {
		case r == '\\':
			return nil, errors.New("a backslash is not known here")
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, inWord = r, true
		case r == ' ' || r == '\t':
			if inWord {
				words = append(words, word.String())
			}
			word.Reset()
			inWord = false
		default:
			word.WriteRune(r)
			inWord = true
		}
	}
	if quote != 0 {
		return nil, errors.New("a quote is not closed")
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}

// expand resolves what systemd replaces in the words of a command: "${MAINPID}", also "$MAINPID" where it is a word of its
// own, and "$$" and "%%", which stand for one of them.
func (c unitCommand) expand(mainPID int) []string {
	pid := ""
	if mainPID > 0 {
		pid = strconv.Itoa(mainPID)
	}
	argv := slices.Clone(c.argv)
	for i, word := range argv {
		if word == "$MAINPID" {
			word = pid
		}
		argv[i] = strings.NewReplacer("$$", "$", "%%", "%", "${MAINPID}", pid).Replace(word)
	}
	return argv
}

// unitOf reads the drop-in of a load balancer.
func (l *Lab) unitOf(lb string) (unit, error) {
	data, err := os.ReadFile(l.Host(lb).Path(dropInPath))
	if err != nil {
		return unit{}, err
	}
	u, err := parseUnit(string(data))
	if err != nil {
		return unit{}, fmt.Errorf("%s: %w", dropInPath, err)
	}
	if u.killMode != "mixed" {
		return unit{}, fmt.Errorf("%s: KillMode=%s is not known here", dropInPath, u.killMode)
	}
	return u, nil
}

// runUnit runs the commands of one key one after the other. One that fails ends that, unless it may.
func (l *Lab) runUnit(ctx context.Context, lb string, commands []unitCommand, mainPID int) error {
	for _, c := range commands {
		argv := c.expand(mainPID)
		if mainPID > 0 {
			argv = append([]string{"env", fmt.Sprintf("MAINPID=%d", mainPID)}, argv...)
		}
		if _, err := l.Host(lb).Run(ctx, argv...); err != nil && !c.mayFail {
			return fmt.Errorf("%s: %w", c, err)
		}
	}
	return nil
}

// StopUnit does what "systemctl stop exabgp" does on a load balancer with the sample drop-in, which is read from its place
// on that host: its ExecStop commands one after the other, then, whatever became of them, SIGTERM to ExaBGP alone, and once
// that has ended or TimeoutStopSec is over, SIGKILL to what is left (KillMode=mixed). Unlike under systemd all runs as root.
func (l *Lab) StopUnit(ctx context.Context, lb string) error {
	u, err := l.unitOf(lb)
	if err != nil {
		return err
	}
	pid, err := l.ExaBGPPID(lb)
	if err != nil {
		return err
	}
	stop, cancel := context.WithTimeout(ctx, u.timeoutStop)
	defer cancel()
	failed := l.runUnit(stop, lb, u.stop, pid)
	children := childrenOf(pid)
	err = errors.Join(failed, l.Host(lb).stopDaemon(DaemonExaBGP, syscall.SIGTERM, u.timeoutStop))
	for _, c := range children {
		if killed := c.signal(syscall.SIGKILL); killed != nil && !errors.Is(killed, os.ErrProcessDone) {
			err = errors.Join(err, killed)
		}
	}
	return err
}

// StartUnit does what "systemctl start exabgp" does on a load balancer with the sample drop-in: ExecStartPre, ExaBGP,
// ExecStartPost. As with Type=simple, the last begin as soon as ExaBGP's process exists.
func (l *Lab) StartUnit(ctx context.Context, lb string) error {
	u, err := l.unitOf(lb)
	if err != nil {
		return err
	}
	if err := l.runUnit(ctx, lb, u.startPre, 0); err != nil {
		return err
	}
	if err := l.StartExaBGP(lb); err != nil {
		return err
	}
	pid, err := l.ExaBGPPID(lb)
	if err != nil {
		return err
	}
	return l.runUnit(ctx, lb, u.startPost, pid)
}

// UpgradeExazk replaces the program exazk of a load balancer by one of the machine, as a package manager does, and ends the
// running one with a signal, so that ExaBGP starts the new one. It waits for nothing.
func (l *Lab) UpgradeExazk(lb, binary string, sig syscall.Signal) error {
	if err := l.Host(lb).CopyFile(binary, "/usr/local/bin/exazk", 0o755); err != nil {
		return err
	}
	return l.SignalExazk(lb, sig)
}

// maintenanceNode is where an operator drains a load balancer, by the sample configuration.
func maintenanceNode(lb string) string {
	return "/exabgp/maintenance/apex/node" + strings.TrimPrefix(lb, "lb")
}

// Drain makes the maintenance node of a load balancer, empty, as "create" of zkCli.sh does. It waits for nothing.
func (l *Lab) Drain(lb string) error { return l.ZKCreate(maintenanceNode(lb), nil) }

// Undrain deletes it. One that does not exist is fine.
func (l *Lab) Undrain(lb string) error { return l.ZKDelete(maintenanceNode(lb)) }
