package zkstate

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// playPeers starts a player whose tree has a record for each of names, and lets it read them.
func playPeers(t *testing.T, records map[string]string) *player {
	t.Helper()
	p := newPlayer(testConfig())
	for _, name := range slices.Sorted(maps.Keys(records)) {
		p.tree.put("/x/status/web/"+name, 0x99, records[name])
	}
	for _, line := range []string{"> 0s tick", "> 0s up 1 0xa1 4s", "> 0s serve"} {
		if err := p.play(line); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func (p *player) peers() map[string]Status {
	ev, _ := p.m.services[0].peers.result.(PeersRead)
	return ev.Peers
}

// junk is what the last complete reading has instead of records.
func (p *player) junk() map[string]string {
	ev, _ := p.m.services[0].peers.result.(PeersRead)
	return ev.Junk
}

// TestTooManyRecords bounds what a directory full of records costs: the first by name are read, and the log says so once.
func TestTooManyRecords(t *testing.T) {
	records := map[string]string{}
	for i := range maxPeers + 3 {
		name := fmt.Sprintf("p%03d", i)
		records[name] = fmt.Sprintf(`{"node":%q}`, name)
	}
	p := playPeers(t, records)
	read := func(at time.Duration, want int, last string) {
		t.Helper()
		p.serve(at, 10000)
		if names := slices.Sorted(maps.Keys(p.peers())); len(names) != want || names[want-1] != last {
			t.Errorf("%d records, the last of %q; want %d, %q", len(names), names[len(names)-1], want, last)
		}
	}
	logged := func(want int) {
		t.Helper()
		if n := strings.Count(p.out.String(), "more status records than are read"); n != want {
			t.Errorf("logged %d times, want %d", n, want)
		}
	}
	read(time.Second, maxPeers, "p255")
	p.tree.remove("/x/status/web/p000")
	read(2*time.Second, maxPeers, "p256")
	logged(1)
	p.tree.remove("/x/status/web/p001")
	p.tree.remove("/x/status/web/p002")
	read(3*time.Second, maxPeers, "p258")
	p.tree.put("/x/status/web/p300", 0x99, `{"node":"p300"}`)
	read(4*time.Second, maxPeers, "p258")
	logged(2)
}

// TestLongRecord leaves out what no node of ours has written.
func TestLongRecord(t *testing.T) {
	long := func(n int) string {
		head := `{"node":"n2","note":"`
		return head + strings.Repeat("x", n-len(head)-2) + `"}`
	}
	p := playPeers(t, map[string]string{"n2": long(maxRecord)})
	if st, there := p.peers()["n2"]; !there || len(st.Note) < maxRecord-100 {
		t.Errorf("a record of %d bytes is left out", maxRecord)
	}
	p.tree.set("/x/status/web/n2", long(maxRecord+1))
	p.serve(time.Second, 10000)
	if _, there := p.peers()["n2"]; there {
		t.Errorf("a record of %d bytes is read", maxRecord+1)
	}
	if want := `"status record is left out" error=longer than a status record can be path=/x/status/web/n2`; !strings.Contains(p.out.String(), want) {
		t.Errorf("want %q in the log", want)
	}
	if got := p.junk(); len(got) != 1 || got["n2"] != errTooLong.Error() {
		t.Errorf("got %q", got)
	}
	p.tree.set("/x/status/web/n2", `{"node":"n2"}`)
	p.serve(2*time.Second, 10000)
	if _, there := p.peers()["n2"]; !there || p.junk() != nil {
		t.Errorf("mended, and got %+v, %q", p.peers(), p.junk())
	}
	p.tree.set("/x/status/web/n2", "{")
	p.serve(3*time.Second, 10000)
	p.tree.remove("/x/status/web/n2")
	p.serve(4*time.Second, 10000)
	if p.junk() != nil {
		t.Errorf("gone, and got %q", p.junk())
	}
}

// TestQuotedRecord has a number in it that no error should quote.
func TestQuotedRecord(t *testing.T) {
	_, err := DecodeStatus("n2", []byte(`{"node":"n2","routes":[{"med":`+strings.Repeat("1", 60000)+`}]}`))
	if err == nil || len(err.Error()) > maxName {
		t.Errorf("got %.300v", err)
	}
}

func TestServerName(t *testing.T) {
	for name, want := range map[string]bool{"zk1": true, "zk-1.example_lan": true, "127.0.0.1": true, "::1": true, "fe80::1%eth0": true,
		"": false, "a b": false, "a,b": false, "a/b": false, "a:1": false, "zk\n": false, "zkä": false} {
		if got := ServerName(name); got != want {
			t.Errorf("%q: %t", name, got)
		}
	}
}
