package main

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const loneConfig = "[log]\nsyslog = false\n[zookeeper]\nhosts = [\"127.0.0.1:1\"]\n[[service]]\nname = \"web\"\nauthoritative = [\"192.0.2.1\"]\ncheck.command = \"true\"\n"

// lone is a daemon without ZooKeeper, and what it has logged.
type lone struct {
	*exec.Cmd
	t     *testing.T
	file  string // its configuration
	stdin io.Closer
	log   *bufio.Scanner
	said  []string
}

func startLone(t *testing.T) *lone {
	l := &lone{t: t, file: filepath.Join(t.TempDir(), "a.toml")}
	l.write(loneConfig)
	l.Cmd = command(t, "-f", l.file)
	stdin, err := l.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := l.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Start(); err != nil {
		t.Fatal(err)
	}
	l.stdin, l.log = stdin, bufio.NewScanner(stderr)
	kill := time.AfterFunc(patience, func() { _ = l.Process.Kill() })
	t.Cleanup(func() { kill.Stop() })
	l.until("exazk started")
	return l
}

func (l *lone) write(text string) {
	l.t.Helper()
	if err := os.WriteFile(l.file, []byte(text), 0o600); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lone) reload() {
	l.t.Helper()
	if err := l.Process.Signal(syscall.SIGHUP); err != nil {
		l.t.Fatal(err)
	}
}

// until reads the log up to a line with a text.
func (l *lone) until(want string) {
	l.t.Helper()
	for l.log.Scan() {
		l.said = append(l.said, l.log.Text())
		if strings.Contains(l.log.Text(), want) {
			return
		}
	}
	l.t.Fatalf("the log has no %q:\n%s", want, strings.Join(l.said, "\n"))
}

// end is that of ExaBGP.
func (l *lone) end() {
	l.t.Helper()
	if err := l.stdin.Close(); err != nil {
		l.t.Fatal(err)
	}
	l.until("exazk stopped")
	if err := l.Wait(); err != nil {
		l.t.Error(err)
	}
}

// TestEndDuringAReloadThatHangs: ExaBGP 4.2 waits for ever for its process, so a file that cannot be read must not keep it from its end.
func TestEndDuringAReloadThatHangs(t *testing.T) {
	l := startLone(t)
	if err := os.Remove(l.file); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(l.file, 0o600); err != nil { // reading it waits for somebody who writes, as for a server that is away
		t.Fatal(err)
	}
	l.reload()
	l.until("the configuration is not read yet")
	l.end()
	if !strings.Contains(strings.Join(l.said, "\n"), "edges=reload") {
		t.Errorf("the log does not say what was left behind:\n%s", strings.Join(l.said, "\n"))
	}
}

// TestSyntaxErrorIsOneLineOfTheLog: each line of a log stands alone, so the one of a faulty file has its place.
func TestSyntaxErrorIsOneLineOfTheLog(t *testing.T) {
	l := startLone(t)
	l.write(loneConfig + "x = = 1\n")
	l.reload()
	l.until("a.toml:9: toml: error: ")
	l.write(loneConfig)
	l.reload()
	l.until("reloaded, nothing has changed")
	l.end()
	if text := strings.Join(l.said, "\n"); strings.Count(text, "reload refused") != 1 {
		t.Errorf("log:\n%s", text)
	}
}
