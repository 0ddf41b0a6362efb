package web

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"exazk/cluster"
	"exazk/vagrant/browser"
)

// chromium is the one that all tests of the page share: it takes a second to start.
var chromium struct {
	once sync.Once
	*browser.Browser
	err error
}

// laptop and phone are what the page is looked at on.
var (
	laptop = browser.Screen{Width: 1280, Height: 900}
	phone  = browser.Screen{Width: 360, Height: 740, Phone: true}
)

// look opens the page in Chromium. At the end of the test the console has no error but those tolerated, and nobody else was asked
// for anything.
func look(t *testing.T, at netip.AddrPort, s browser.Screen, tolerated ...string) *browser.Tab {
	t.Helper()
	if err := browser.Missing(); err != nil {
		t.Skip(err)
	}
	if os.Getenv(inside) == "" {
		t.Skip("not root: Chromium would not be kept from the network")
	}
	chromium.once.Do(func() { chromium.Browser, chromium.err = browser.Start(context.Background(), here) })
	if chromium.err != nil {
		t.Fatal(chromium.err)
	}
	tab, err := chromium.Open("http://"+at.String()+"/", s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, fault := range tab.Faults() {
			if !slices.ContainsFunc(tolerated, func(part string) bool { return strings.Contains(fault, part) }) {
				t.Error(fault)
			}
		}
		if t.Failed() {
			text, _ := browser.Eval[string](tab, "document.body.innerText")
			t.Logf("the page:\n%s", text)
			if picture, err := tab.Shot(); err == nil {
				_ = os.WriteFile(filepath.Join(t.ArtifactDir(), "page.png"), picture, 0o644)
			}
		}
		tab.Close()
	})
	return tab
}

// here is a command in the network namespace of the tests.
func here(ctx context.Context, argv ...string) *exec.Cmd {
	return exec.CommandContext(ctx, argv[0], argv[1:]...)
}

// onStage serves a picture and gives what changes it.
func onStage(t *testing.T, v cluster.View) (*stage, *running, netip.AddrPort) {
	t.Helper()
	src := newStage(v)
	s := start(t, Options{Source: src, Alive: alive})
	at := free(t)
	s.Listen([]netip.AddrPort{at})
	eventually(t, time.Second, answers(at))
	return src, s, at
}

func until(t *testing.T, tab *browser.Tab, limit time.Duration, expression string) {
	t.Helper()
	if err := tab.Until(limit, expression); err != nil {
		t.Fatal(err)
	}
}

func has(text string) string { return fmt.Sprintf("document.body.innerText.includes(%q)", text) }

func want[T comparable](t *testing.T, tab *browser.Tab, expression string, want T) {
	t.Helper()
	if got, err := browser.Eval[T](tab, expression); err != nil || got != want {
		t.Errorf("%s: got %v, %v, want %v", expression, got, err, want)
	}
}

// who is the text of the cell that says who announces a VIP.
func who(vip string) string {
	return fmt.Sprintf(`document.querySelector('tr[data-key=%q] .who').innerText`, vip)
}

func TestPageShows(t *testing.T) {
	for name, tt := range map[string]struct {
		view cluster.View
		says []string
		who  map[string]string
	}{
		"nominal": {nominal(), []string{"All nominal", "apex", "Every VIP is announced as it should be.", "announces MED 100", "v1.4.0", "172.16.1.6", "What changed", "ZooKeeper connected", "live"},
			map[string]string{"10.20.255.1": "node1", "10.20.255.3": "node3"}},
		"degraded": {degraded(), []string{"Degraded: unhealthy node1", "the check of node1 fails", "announces backup, MED 200", "unhealthy", "exit status 7", "healthy → unhealthy"},
			map[string]string{"10.20.255.1": "node2, node3", "10.20.255.2": "node2"}},
		"down": {down(), []string{"Down: no-announcer 10.20.255.3", "nobody announces 10.20.255.3", "ZooKeeper is lost as node1 sees it, since", "as last read", "absent no status record", "drained for", "new kernel, by ops@jump1"},
			map[string]string{"10.20.255.3": "nobody"}},
		"standby": {standby(), []string{"All nominal", "announces backup, MED 300"}, map[string]string{"10.20.255.1": "node1, node2, node3"}},
		"many":    {many(), []string{"node6", "2001:db8:ffff:ffff:ffff:ffff:ffff:f027", "dns"}, nil},
		"nothing": {cluster.View{Observer: "node1", ZooKeeper: "connecting"}, []string{"ZooKeeper is connecting as node1 sees it", "Nothing is known to have changed."}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, at := onStage(t, tt.view)
			for _, screen := range []browser.Screen{laptop, phone} {
				tab := look(t, at, screen)
				until(t, tab, 5*time.Second, "document.querySelector('#changes') !== null")
				for _, text := range tt.says {
					if screen == phone {
						text = strings.Replace(text, "absent no status record", "no status record", 1) // one below the other there
					}
					want(t, tab, has(text), true)
				}
				for vip, nodes := range tt.who {
					want(t, tab, who(vip), nodes)
				}
				want(t, tab, "document.documentElement.scrollWidth <= document.documentElement.clientWidth", true)
			}
		})
	}
}

// TestPageIsLightAndDark has text that can be read on its ground in both, by the contrast of WCAG 2.2 section 1.4.3.
func TestPageIsLightAndDark(t *testing.T) {
	const contrast = `(() => {
		const rgb = (c) => c.match(/[\d.]+/g).map(Number);
		const light = ([r, g, b]) => [r, g, b].map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4).reduce((s, v, i) => s + v * [0.2126, 0.7152, 0.0722][i], 0);
		const ground = (e) => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c.length === 3 || c[3] > 0) return c; } return [255, 255, 255]; };
		let least = [21, ""];
		for (const e of document.querySelectorAll("body *")) {
			if (![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) || e.closest(".skip, noscript")) continue;
			const a = light(rgb(getComputedStyle(e).color)), b = light(ground(e));
			const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
			if (ratio < least[0]) least = [ratio, e.outerHTML.slice(0, 200)];
		}
		return least[0] >= 4.5 ? "" : least.join(" ");
	})()`
	_, _, at := onStage(t, down())
	grounds := map[string]bool{}
	for _, dark := range []bool{false, true} {
		screen := laptop
		screen.Dark = dark
		tab := look(t, at, screen)
		until(t, tab, 5*time.Second, "document.querySelector('#changes') !== null")
		want(t, tab, contrast, "")
		ground, err := browser.Eval[string](tab, "getComputedStyle(document.body).backgroundColor")
		if err != nil {
			t.Fatal(err)
		}
		grounds[ground] = true
	}
	if len(grounds) != 2 {
		t.Errorf("both have %v", grounds)
	}
}

// TestPageFollows has the page show a failover and a return within a second, by itself, and keep what is open and focused.
func TestPageFollows(t *testing.T) {
	src, _, at := onStage(t, nominal())
	tab := look(t, at, laptop)
	until(t, tab, 5*time.Second, who("10.20.255.1")+" === 'node1'")
	const open = "document.querySelector('tr[data-key=\"10.20.255.2\"] td[data-label=node2] summary')"
	if _, err := browser.Eval[any](tab, "window.before = true, "+open+".focus(), null"); err != nil {
		t.Fatal(err)
	}
	if err := tab.Press("\r"); err != nil { // by keyboard
		t.Fatal(err)
	}
	want(t, tab, open+".parentElement.open", true)
	for _, step := range []struct {
		view   cluster.View
		nodes  string
		notice string
	}{{degraded(), "node2, node3", ""}, {nominal(), "node1", ""}, {down(), "node1", "ZooKeeper is lost"}, {nominal(), "node1", ""}} {
		src.show(step.view)
		until(t, tab, time.Second, fmt.Sprintf("%s === %q && document.documentElement.dataset.level === %q", who("10.20.255.1"), step.nodes, step.view.Level))
		want(t, tab, fmt.Sprintf("document.querySelector('#notice').innerText.startsWith(%q)", step.notice), true)
	}
	want(t, tab, open+".parentElement.open", true)
	want(t, tab, "document.activeElement === "+open, true)
	want(t, tab, "window.before", true) // it was not loaded again
	want(t, tab, "document.title", "nominal: apex – ExaZK")
}

// TestPageWithoutServer says that what it shows is old, and goes on when the server is back.
func TestPageWithoutServer(t *testing.T) {
	src, s, at := onStage(t, nominal())
	tab := look(t, at, laptop, "/events", "/icon.svg")
	until(t, tab, 5*time.Second, has("live"))
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	until(t, tab, 3*time.Second, has("connection lost, as seen at"))
	want(t, tab, who("10.20.255.1"), "node1")
	src.show(degraded())
	again := start(t, Options{Source: src, Alive: alive})
	again.Listen([]netip.AddrPort{at})
	until(t, tab, 5*time.Second, who("10.20.255.1")+" === 'node2, node3'")
	want(t, tab, "document.querySelector('#link').innerText", "live")
}

// TestPageOfASilentServer sees that a connection is dead although nobody has closed it.
func TestPageOfASilentServer(t *testing.T) {
	src := &stuck{stage: newStage(nominal())}
	s := start(t, Options{Source: src, Alive: alive})
	at := free(t)
	s.Listen([]netip.AddrPort{at})
	eventually(t, time.Second, answers(at))
	tab := look(t, at, laptop, "/events", "/icon.svg")
	until(t, tab, 5*time.Second, has("live"))
	src.hold.Lock()
	src.show(degraded())
	until(t, tab, 12*time.Second, has("connection lost"))
	src.hold.Unlock()
	until(t, tab, 5*time.Second, has("live")+" && "+who("10.20.255.1")+" === 'node2, node3'")
}

// stuck is a stage that can be made to keep everybody waiting.
type stuck struct {
	*stage
	hold sync.RWMutex
}

func (s *stuck) View() (cluster.View, <-chan struct{}) {
	s.hold.RLock()
	defer s.hold.RUnlock()
	return s.stage.View()
}

// TestPageOfTooManyFollowers shows that it has no place, and takes one that becomes free.
func TestPageOfTooManyFollowers(t *testing.T) {
	_, _, at := onStage(t, nominal())
	var leave []func()
	for range maxFollowers {
		ctx, cancel := context.WithCancel(t.Context())
		leave = append(leave, cancel)
		hold(t, ctx, at)
	}
	tab := look(t, at, laptop, "/events", "/icon.svg")
	until(t, tab, 5*time.Second, has("connection lost"))
	leave[0]()
	until(t, tab, 5*time.Second, has("All nominal"))
	for _, cancel := range leave {
		cancel()
	}
}

// TestPageTakesTextForText has markup wherever text of others gets into the picture.
func TestPageTakesTextForText(t *testing.T) {
	_, _, at := onStage(t, hostile())
	tab := look(t, at, laptop, "requires 'TrustedHTML'")
	until(t, tab, 5*time.Second, has(`<img src=x onerror="window.pwned=1">`))
	want(t, tab, "window.pwned === undefined", true)
	want(t, tab, "document.querySelectorAll('main img, main script').length", 0)
	// What the policy of the page is for, should that ever fail.
	want(t, tab, `(() => { try { document.body.innerHTML = "<img src=x onerror=window.pwned=1>"; return "taken"; } catch (e) { return e.name; } })()`, "TypeError")
}

// TestPageIsForEverybody looks at what a screen reader reads.
func TestPageIsForEverybody(t *testing.T) {
	_, _, at := onStage(t, degraded())
	for _, screen := range []browser.Screen{laptop, phone} {
		tab := look(t, at, screen)
		until(t, tab, 5*time.Second, "document.querySelector('#changes') !== null")
		want(t, tab, "document.documentElement.lang", "en")
		want(t, tab, "[...document.querySelectorAll('h1, h2')].map((h) => h.tagName).join(' ')", "H1 H2 H2")
		want(t, tab, "document.querySelector('#summary').getAttribute('aria-live')", "polite")
		want(t, tab, "[...document.querySelectorAll('table')].every((t) => t.getAttribute('aria-label') && t.getAttribute('role') === 'table')", true)
		want(t, tab, "[...document.querySelectorAll('tbody tr')].every((r) => r.querySelector('th[scope=row][role=rowheader]') && [...r.querySelectorAll('td')].every((c) => c.getAttribute('role') === 'cell'))", true)
		want(t, tab, "new Set([...document.querySelectorAll('[id]')].map((e) => e.id)).size === document.querySelectorAll('[id]').length", true)
		// A state has a word and a sign of its own beside its colour.
		want(t, tab, "[...document.querySelectorAll('[data-state] .state, .badge')].every((e) => e.innerText.trim() && getComputedStyle(e, '::before').content.length > 2)", true)
		want(t, tab, "document.querySelectorAll('button, form, input').length", 0)
	}
}
