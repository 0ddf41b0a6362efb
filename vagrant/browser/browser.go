// Package browser has Debian's Chromium look at a page, for tests and for pictures in the docs. It talks to it over a pipe, so
// Chromium may be in another network namespace; and it should be in one that leads nowhere, for it talks to its maker.
package browser

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
)

// program is Debian's. It is run as root, in a network namespace: hence without a sandbox of its own.
const program = "/usr/bin/chromium"

// Missing says why Chromium cannot be used; nil if it can.
func Missing() error {
	if _, err := exec.LookPath(program); err != nil {
		return fmt.Errorf("%s is missing (Debian package chromium)", program)
	}
	return nil
}

// Browser is a Chromium that runs.
type Browser struct {
	ctx  context.Context
	stop func()
}

// Start starts Chromium by a function that prepares a command in some network namespace.
func Start(ctx context.Context, prepare func(context.Context, ...string) *exec.Cmd) (*Browser, error) {
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(program), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.ModifyCmdFunc(func(cmd *exec.Cmd) {
			there := prepare(ctx, cmd.Args...)
			cmd.Path, cmd.Args = there.Path, there.Args
			cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		}))
	ctx, stopAll := chromedp.NewExecAllocator(ctx, options...)
	ctx, stopFirst := chromedp.NewContext(ctx)
	b := &Browser{ctx: ctx, stop: func() { stopFirst(); stopAll() }}
	if err := chromedp.Do(ctx); err != nil {
		b.stop()
		return nil, fmt.Errorf("start chromium: %w", err)
	}
	return b, nil
}

// Close ends Chromium.
func (b *Browser) Close() {
	_ = chromedp.Cancel(b.ctx) // waits for its end
	b.stop()
}

// Screen is what a page is looked at on.
type Screen struct {
	Width, Height int64 // CSS pixels
	Scale         float64
	Phone         bool
	Dark          bool
}

// Tab is a page that is looked at.
type Tab struct {
	ctx  context.Context
	stop func()

	mu     sync.Mutex
	faults []string
}

// Open opens a page and waits until it is loaded.
func (b *Browser) Open(address string, s Screen) (*Tab, error) {
	own, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	ctx, stop := chromedp.NewContext(b.ctx)
	t := &Tab{ctx: ctx, stop: stop}
	console, requests := chromedp.Console(ctx), chromedp.Events(ctx, network.RequestWillBeSent)
	go func() { // ends with the tab, as the next
		for m, err := range console {
			if err == nil && (m.IsException() || m.Type == chromedp.ConsoleError || m.Type == chromedp.ConsoleWarning) {
				t.complain(fmt.Sprintf("%s: %s %s", m.Type, m.Text, m.URL))
			}
		}
	}()
	go func() {
		for r, err := range requests {
			if err != nil {
				return
			}
			if u, err := url.Parse(r.Request.URL); err != nil || u.Host != own.Host {
				t.complain("request to " + r.Request.URL)
			}
		}
	}()
	if err := chromedp.Do(ctx, onScreen(s), chromedp.Navigate(address)); err != nil {
		t.Close()
		return nil, fmt.Errorf("open %s: %w", address, err)
	}
	return t, nil
}

func onScreen(s Screen) chromedp.Action[chromedp.Void] {
	view := []chromedp.EmulateViewportOption{chromedp.EmulateScale(max(s.Scale, 1))}
	if s.Phone {
		view = append(view, chromedp.EmulateMobile, chromedp.EmulateTouch, chromedp.EmulatePortrait)
	}
	scheme := "light"
	if s.Dark {
		scheme = "dark"
	}
	return chromedp.Steps(chromedp.EmulateViewport(s.Width, s.Height, view...), chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
		return err
	}))
}

func (t *Tab) complain(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.faults = append(t.faults, text)
}

// Faults are what the console complained about, and requests to another host than the page's.
func (t *Tab) Faults() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.faults)
}

// Close closes the tab.
func (t *Tab) Close() { t.stop() }

// Eval gives the value of an expression in the page.
func Eval[T any](t *Tab, expression string) (T, error) {
	ctx, cancel := context.WithTimeout(t.ctx, 10*time.Second)
	defer cancel()
	return chromedp.Run(ctx, chromedp.Evaluate[T](expression))
}

// Until waits until an expression is true in the page.
func (t *Tab) Until(limit time.Duration, expression string) error {
	var last error
	for start := time.Now(); time.Since(start) < limit; <-time.After(20 * time.Millisecond) {
		ok, err := Eval[bool](t, expression)
		if ok && err == nil {
			return nil
		}
		last = err // of a page that is about to load again, say
	}
	return errors.Join(fmt.Errorf("not within %v: %s", limit, expression), last)
}

// Press presses keys, one after the other.
func (t *Tab) Press(keys string) error { return chromedp.Do(t.ctx, chromedp.KeyEvent(keys)) }

// Shot is a picture of what is on the screen, as PNG.
func (t *Tab) Shot() ([]byte, error) { return chromedp.Run(t.ctx, chromedp.CaptureScreenshot()) }
