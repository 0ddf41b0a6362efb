package e2e

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"exazk/vagrant/lab"
)

// place is what all tests share: the programs built for them, and the labs that must not outlive them. TestMain makes it.
var place struct {
	dir     string // of everything
	missing string // why the tests are skipped; empty if they are not
	root    string // of the sources

	mu         sync.Mutex
	labs       []builtLab
	namespaces []string // of networks that are no lab
	table      []measurement
}

type builtLab struct{ prefix, dir string }

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	if os.Geteuid() != 0 {
		place.missing = "not root: network namespaces can not be made"
	} else if err := lab.Missing(); err != nil {
		place.missing = err.Error()
	}
	if place.missing != "" {
		return m.Run()
	}
	var err error
	if place.dir, err = os.MkdirTemp("", "exazk-e2e-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(place.dir)
	if err := buildPrograms(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer takeDown()
	go takeDownOnSignal()
	code := m.Run()
	printTable(os.Stdout)
	return code
}

// buildPrograms builds the programs of the lab's hosts, static, as they are shipped.
func buildPrograms() error {
	var err error
	if place.root, err = filepath.Abs("../.."); err != nil {
		return err
	}
	cmd := exec.Command("go", "build", "-o", place.dir+"/", ".", "./vagrant/web", "./vagrant/probe", "./vagrant/labctl")
	cmd.Dir = place.root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the programs: %w\n%s", err, out)
	}
	return nil
}

func program(name string) string { return filepath.Join(place.dir, name) }

// newPrefix is short, for it becomes part of names, and unlike that of any other run on this machine.
func newPrefix() string {
	b := make([]byte, 2)
	_, _ = rand.Read(b) // never fails, see crypto/rand
	return "xe" + hex.EncodeToString(b)
}

// takeDown removes every lab and every other network that is still there.
func takeDown() {
	place.mu.Lock()
	defer place.mu.Unlock()
	for _, l := range place.labs {
		if err := lab.Down(l.prefix, l.dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	for _, name := range place.namespaces {
		if err := dropNamespace(name); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	place.labs, place.namespaces = nil, nil
}

// dropNamespace removes a network namespace and ends what runs there. One that does not exist is fine.
func dropNamespace(name string) error {
	if _, err := os.Stat("/run/netns/" + name); err != nil {
		return nil
	}
	out, err := exec.Command("ip", "netns", "pids", name).Output()
	if err != nil {
		return fmt.Errorf("processes in network namespace %s: %w", name, err)
	}
	for _, field := range strings.Fields(string(out)) {
		if pid, err := strconv.Atoi(field); err == nil {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	if out, err := exec.Command("ip", "netns", "delete", name).CombinedOutput(); err != nil {
		return fmt.Errorf("delete network namespace %s: %w: %s", name, err, out)
	}
	return nil
}

// takeDownOnSignal sees to it that an interrupted run leaves no namespace behind. It ends with the program.
func takeDownOnSignal() {
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, os.Interrupt, syscall.SIGTERM)
	<-ch
	signal.Ignore(syscall.SIGPIPE) // "go test" may have ended by the same signal, and who still writes must not end us before this is done
	takeDown()
	os.RemoveAll(place.dir)
	os.Exit(130)
}
