package main

import (
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/sirupsen/logrus"

	"exazk/exabgp"
)

func testRecord(t *testing.T, name string) *record {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return newRecord(name, logrus.NewEntry(log))
}

// TestRecordName: two processes of one ExaBGP, whose files have the same name, must not take each other's routes for their own.
func TestRecordName(t *testing.T) {
	t.Chdir("/tmp")
	a, b := recordName("/etc/a/exazk.toml"), recordName("/etc/b/exazk.toml")
	if a == b {
		t.Errorf("both are called %q", a)
	}
	if c := recordName("../etc/a/exazk.toml"); c != a {
		t.Errorf("one file is called %q and %q", a, c)
	}
}

func TestRecord(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("RUNTIME_DIRECTORY", dir+":/elsewhere")
	r := testRecord(t, "apex")
	if got := r.read(); got != nil {
		t.Errorf("without a file: %v", got)
	}
	want := []exabgp.Route{
		{Prefix: netip.MustParsePrefix("10.20.255.1/32"), PathID: 7, Neighbor: netip.MustParseAddr("172.16.1.6")},
		{Prefix: netip.MustParsePrefix("2001:db8::/48")},
	}
	if err := r.write(want); err != nil {
		t.Fatal(err)
	}
	if got := testRecord(t, "apex").read(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, bad := range []string{"", "{", `{"routes":[{"prefix":"10.20.255.1/24"}]}`, `{"routes":[{}]}`} {
		if err := os.WriteFile(filepath.Join(dir, "exazk-apex.routes"), []byte(bad), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := r.read(); got != nil {
			t.Errorf("%q gives %v", bad, got)
		}
	}
}
