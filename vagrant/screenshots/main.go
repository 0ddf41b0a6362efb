// Command screenshots makes the pictures of the page in docs/page.md: it builds a lab of its own, with the HTTP server on, and has
// Chromium look at it from the management network before and after the check of lb1 fails. "make screenshots" runs it, as root.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"exazk/vagrant/browser"
	"exazk/vagrant/lab"
)

const (
	prefix = "exazk-shots" // unlike that of "make lab", which may stand meanwhile
	most   = 200 << 10     // bytes of a picture: they are in the repository
)

var (
	laptop = browser.Screen{Width: 1180, Height: 900}
	phone  = browser.Screen{Width: 390, Height: 844, Scale: 1.5, Phone: true, Dark: true}
)

func main() {
	out := flag.String("out", "docs/screenshots", "where the pictures go")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *out); err != nil {
		fmt.Fprintln(os.Stderr, "screenshots:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out string) error {
	if err := errors.Join(browser.Missing(), os.MkdirAll(out, 0o755)); err != nil {
		return err
	}
	l, err := lab.Up(ctx, lab.Options{
		Prefix: prefix, Out: os.Stderr, ExazkBinary: "exazk", WebBinary: "bin/web", ConfigDir: "configs", BirdDir: "vagrant/bird", HTTP: true,
	})
	if err != nil {
		return err
	}
	err = shoot(ctx, l, out)
	return errors.Join(err, l.Down())
}

func shoot(ctx context.Context, l *lab.Lab, out string) error {
	waiting, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := l.WaitSteady(waiting); err != nil {
		return err
	}
	b, err := browser.Start(ctx, func(ctx context.Context, argv ...string) *exec.Cmd { return l.Host("zk").Command(ctx, argv...) })
	if err != nil {
		return err
	}
	defer b.Close()
	wide, err := look(b, laptop)
	if err != nil {
		return err
	}
	narrow, err := look(b, phone)
	if err != nil {
		return err
	}
	level := func(tab *browser.Tab, word string) error {
		return tab.Until(20*time.Second, fmt.Sprintf("document.documentElement.dataset.level === %q", word))
	}
	if err := errors.Join(level(wide, "nominal"), save(wide, out, "nominal.png"), l.StopWeb("lb1")); err != nil {
		return err
	}
	taken := fmt.Sprintf(`document.querySelector('tr[data-key="%s"] .who').innerText.split(", ").length === 2`, lab.VIPs()[0])
	return errors.Join(wide.Until(20*time.Second, taken), narrow.Until(20*time.Second, taken), level(wide, "degraded"),
		save(wide, out, "failover.png"), save(narrow, out, "phone-dark.png"))
}

// look opens the page of lb2.
func look(b *browser.Browser, s browser.Screen) (*browser.Tab, error) {
	return b.Open(fmt.Sprintf("http://%s:%d/", lab.ManagementAddr("lb2"), lab.HTTPPort), s)
}

func save(tab *browser.Tab, out, name string) error {
	picture, err := tab.Shot()
	if err != nil {
		return err
	}
	if len(picture) > most {
		return fmt.Errorf("%s has %d bytes, want %d at most", name, len(picture), most)
	}
	return os.WriteFile(filepath.Join(out, name), picture, 0o644)
}
