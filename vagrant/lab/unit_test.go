package lab

import (
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestParseUnit(t *testing.T) {
	got, err := parseUnit(`# a comment
[Unit]
ExecStop=/bin/not-here

[Service]
ExecStop=/bin/gone
ExecStop=
ExecStop=-/bin/sh -c 'echo "$$MAINPID" 100%%; exit 1'
; another comment
ExecStop=/usr/local/bin/exazk drain \
# between
  --timeout "20 s" $MAINPID x${MAINPID}
ExecStartPre=/bin/a
ExecStartPost=-/bin/b ''
KillMode=mixed
TimeoutStopSec=30
Restart=always
[Install]
ExecStop=/bin/nor-here
`)
	want := unit{
		startPre:  []unitCommand{{argv: []string{"/bin/a"}}},
		startPost: []unitCommand{{argv: []string{"/bin/b", ""}, mayFail: true}},
		stop: []unitCommand{
			{argv: []string{"/bin/sh", "-c", `echo "$$MAINPID" 100%%; exit 1`}, mayFail: true},
			{argv: []string{"/usr/local/bin/exazk", "drain", "--timeout", "20 s", "$MAINPID", "x${MAINPID}"}},
		},
		killMode: "mixed", timeoutStop: 30 * time.Second,
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("got %+v, %v, want %+v", got, err, want)
	}
	if got, want := got.stop[0].expand(42), []string{"/bin/sh", "-c", `echo "$MAINPID" 100%; exit 1`}; !reflect.DeepEqual(got, want) {
		t.Errorf("expanded to %q, want %q", got, want)
	}
	if got, want := got.stop[1].expand(42)[4:], []string{"42", "x42"}; !reflect.DeepEqual(got, want) {
		t.Errorf("expanded to %q, want %q", got, want)
	}
}

func TestParseUnitRefusesWhatItDoesNotKnow(t *testing.T) {
	for line, want := range map[string]string{
		"ExecStop=+/bin/x":    "prefix",
		"ExecStop=--/bin/x":   "prefix",
		"ExecStop=-":          "no program",
		"ExecStop=/bin/x 'y":  "not closed",
		`ExecStop=/bin/x \n`:  "backslash",
		"TimeoutStopSec=soon": "invalid duration",
		"nonsense":            "no key",
	} {
		if u, err := parseUnit("[Service]\n" + line + "\n"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, %v, want an error that says %q", line, u, err, want)
		}
	}
}

// What StopUnit does must be what the sample says, and not nothing.
func TestDropInCanBePlayed(t *testing.T) {
	u, err := parseUnit(read(t, filepath.Join(configDir, "exabgp.service.d", "exazk.conf")))
	if err != nil || len(u.stop) == 0 || u.killMode != "mixed" || u.timeoutStop <= 0 {
		t.Errorf("%+v, %v, want commands to stop with and KillMode=mixed", u, err)
	}
}
