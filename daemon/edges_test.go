package daemon

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestHealthConfig checks that every check reaches package health as what it is, with its own numbers, in the order of the file.
func TestHealthConfig(t *testing.T) {
	c, err := ParseConfig("f.toml", fullConfig)
	if err != nil {
		t.Fatal(err)
	}
	h := c.HealthConfig(&c.Services[0])
	if h.Service != "web" || h.Require != 2 || !slices.Equal(h.Env, []string{"EXAZK_SERVICE=web", "EXAZK_NODE=node1", "EXAZK_VIPS=10.20.255.1 2001:db8::1 192.0.2.0_24 10.20.255.2 10.20.255.3"}) {
		t.Errorf("got %+v", h)
	}
	var got []string
	for _, k := range h.Checks {
		got = append(got, fmt.Sprintf("%s: %T %s", k.Name, k.Probe, k.Probe))
	}
	want := []string{
		`command: *health.Command echo "a\b	c" | grep -q '✓'`,
		`arguments: *health.Command ["/bin/test" "-e" "/etc/passwd" ""]`,
		"page: *health.HTTP POST https://127.0.0.1:8443/health?a=b",
		"tcp: *health.TCP tcp 127.0.0.1:25",
		"dns: *health.DNS dns example.org AAAA @[::1]:53",
		"file: *health.File ",
		"systemd: *health.Systemd systemd nginx.service",
	}
	for i, w := range want {
		if i >= len(got) || !strings.HasPrefix(got[i], w) {
			t.Errorf("check %d: got %q, want %s", i, got, w)
		}
	}
	if k := h.Checks[0]; k.Interval != 2*time.Second || k.FastInterval != 100*time.Millisecond || k.Timeout != 3*time.Second || k.Rise != 4 || k.Fall != 5 || k.Jitter != time.Second {
		t.Errorf("got %+v", k)
	}
}
