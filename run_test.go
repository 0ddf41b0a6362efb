package main

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestEndDuringAReloadThatHangs: ExaBGP 4.2 waits for ever for its process, so a file that cannot be read must not keep it from its end.
func TestEndDuringAReloadThatHangs(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.toml")
	text := "[log]\nsyslog = false\n[zookeeper]\nhosts = [\"127.0.0.1:1\"]\n[[service]]\nname = \"web\"\nauthoritative = [\"192.0.2.1\"]\ncheck.command = \"true\"\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := command(t, "-f", file)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer time.AfterFunc(patience, func() { _ = cmd.Process.Kill() }).Stop()
	var said []string
	lines := bufio.NewScanner(stderr)
	until := func(want string) {
		t.Helper()
		for lines.Scan() {
			said = append(said, lines.Text())
			if strings.Contains(lines.Text(), want) {
				return
			}
		}
		t.Fatalf("the log has no %q:\n%s", want, strings.Join(said, "\n"))
	}
	until("exazk started")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(file, 0o600); err != nil { // reading it waits for somebody who writes, as for a server that is away
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	until("the configuration is not read yet")
	if err := stdin.Close(); err != nil {
		t.Fatal(err)
	}
	until("edges=reload")
	until("exazk stopped")
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v", err)
	}
}
