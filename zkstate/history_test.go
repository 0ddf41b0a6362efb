package zkstate

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"

	"exazk/zkstate/zktest"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func verdict(at time.Time, vip, to string) Change {
	return Change{At: at, What: "verdict", Service: "web", VIP: vip, To: to}
}

// TestHistoryKeepsVIPsTogether: what one step does to many VIPs takes one place, and is read as one change for each.
func TestHistoryKeepsVIPsTogether(t *testing.T) {
	var all []chapter
	for i := range 100 {
		all = addChange(all, verdict(noon, fmt.Sprintf("192.0.2.%d", i), "announce"))
	}
	all = addChange(all, verdict(noon, "198.51.100.1", "withdraw"))
	all = addChange(all, Change{At: noon, What: "health", Service: "web", To: "healthy"})
	all = addChange(all, Change{At: noon, What: "health", Service: "web", To: "healthy"})
	all = addChange(all, verdict(noon.Add(time.Second), "192.0.2.1", "announce"))
	data, kept := encodeHistory(history{Node: "n1", Changes: all})
	if len(kept) != 5 {
		t.Fatalf("%d entries: %s", len(kept), data)
	}
	back, err := DecodeHistory("n1", data)
	if err != nil || len(back) != 104 {
		t.Fatalf("%d changes, %v", len(back), err)
	}
	for i, vip := range map[int]string{0: "192.0.2.0", 99: "192.0.2.99", 100: "198.51.100.1", 101: "", 103: "192.0.2.1"} {
		if back[i].VIP != vip || back[i].Node != "n1" {
			t.Errorf("change %d is %+v", i, back[i])
		}
	}
}

func TestHistoryIsBounded(t *testing.T) {
	var all []chapter
	for i := range 1000 {
		c := verdict(noon.Add(time.Duration(i)*time.Second), "192.0.2.1", "announce")
		c.Detail = strings.Repeat("x", 200)
		all = addChange(all, c)
	}
	data, kept := encodeHistory(history{Node: "n1", Changes: all})
	if len(kept) != maxChanges || len(data) > maxHistory || !kept[len(kept)-1].equal(all[len(all)-1]) {
		t.Errorf("%d entries, %d bytes", len(kept), len(data))
	}
	for i := range all {
		all[i].Detail = strings.Repeat("é", 10_000)
	}
	data, kept = encodeHistory(history{Node: "n1", Changes: all})
	if len(kept) != 1 || len(data) > maxHistory {
		t.Errorf("of long ones %d entries, %d bytes", len(kept), len(data))
	}
}

// TestHistoryOfManyVIPs: however many there are, the last words of some are kept.
func TestHistoryOfManyVIPs(t *testing.T) {
	var all []chapter
	for i := range 10_000 {
		all = addChange(all, verdict(noon, fmt.Sprintf("10.0.%d.%d", i/256, i%256), "announce"))
	}
	if data, kept := encodeHistory(history{Node: "n1", Changes: all}); len(kept) < 5 || len(data) > maxHistory {
		t.Errorf("%d entries, %d bytes", len(kept), len(data))
	}
}

func TestHistoryOfSomethingElseIsRefused(t *testing.T) {
	for name, data := range map[string]string{
		"empty": "", "no JSON": "{", "a list": "[]", "another node's": `{"node":"n2","changes":[]}`, "too long": `{"node":"n1"}` + strings.Repeat(" ", maxRecord),
	} {
		if got, err := DecodeHistory("n1", []byte(data)); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// TestTimesThatJSONRefuses: a time that somebody wrote into ZooKeeper can be written again, or is none. Where not, the end of the
// daemon would be a znode that anybody may write, and read again at its next start.
func TestTimesThatJSONRefuses(t *testing.T) {
	for at, want := range map[string]string{
		"2026-01-02T03:04:05+24:00": "2026-01-01T03:04:05Z", "9999-12-31T23:59:59-23:00": "0001-01-01T00:00:00Z", "0000-01-01T00:00:00+23:00": "0001-01-01T00:00:00Z",
	} {
		h, err := decodeHistory("n1", []byte(`{"node":"n1","changes":[{"at":"`+at+`","what":"process","to":"started"}]}`))
		if err != nil {
			t.Fatal(err)
		}
		if data, _ := encodeHistory(h); !strings.Contains(string(data), want) {
			t.Errorf("history: %s is %s", at, data)
		}
		st, err := DecodeStatus("n1", []byte(`{"node":"n1","since":"`+at+`"}`))
		if err != nil {
			t.Fatal(err)
		}
		for what, got := range map[string]time.Time{"record": st.Since, "stamp": Stamp(at).Time()} {
			if text, err := json.Marshal(got); string(text) != `"`+want+`"` {
				t.Errorf("%s: %s is %s, %v", what, at, text, err)
			}
		}
	}
}

// scribe runs a History until stop is called.
func scribe(t *testing.T, servers []string, node string) (h *History, hook *logtest.Hook, stop func()) {
	logger, hook := logtest.NewNullLogger()
	h = NewHistory(servers, node, map[string]string{"web": "/h/web/" + node, "dns": "/h/dns/" + node}, logrus.NewEntry(logger))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := h.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	stop = func() {
		cancel()
		<-ended
	}
	t.Cleanup(stop)
	return h, hook, stop
}

// reader looks at what lies in ZooKeeper.
type reader struct {
	*testing.T
	zk *Admin
}

func newReader(t *testing.T, srv *zktest.Server) reader {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	a, err := Dial(ctx, []string{srv.Addr()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return reader{t, a}
}

// await waits until the changes at a path lead to exactly those states.
func (r reader) await(at string, want ...string) {
	r.Helper()
	var got []string
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		n, _, err := r.zk.Get(r.Context(), at)
		if err != nil {
			r.Fatal(err)
		}
		changes, _ := DecodeHistory(filepath.Base(at), n.Data)
		got = nil
		for _, c := range changes {
			got = append(got, c.To)
		}
		if slices.Equal(got, want) {
			return
		}
	}
	r.Fatalf("%s has %v, not %v", at, got, want)
}

// TestHistoryOutlivesTheProcess: the next one goes on where the one before ended, and what is of the whole node is in the
// history of each service.
func TestHistoryOutlivesTheProcess(t *testing.T) {
	srv := zktest.Start(t, zktest.Options{})
	r := newReader(t, srv)
	h, _, stop := scribe(t, []string{srv.Addr()}, "n1")
	h.Add(Change{At: noon, What: "process", To: "started"}, verdict(noon, "192.0.2.1", "announce"))
	r.await("/h/web/n1", "started", "announce")
	r.await("/h/dns/n1", "started")
	h.Add(verdict(noon, "192.0.2.1", "withdraw")) // within the gap: the end of the process does not wait for it
	stop()
	r.await("/h/web/n1", "started", "announce", "withdraw")

	h, _, _ = scribe(t, []string{srv.Addr()}, "n1")
	h.Add(verdict(noon.Add(time.Hour), "192.0.2.1", "hold"))
	r.await("/h/web/n1", "started", "announce", "withdraw", "hold")
	n, _, err := r.zk.Get(t.Context(), "/h/web/n1")
	if err != nil || n.Owner != 0 {
		t.Errorf("it is of session %#x: %v", n.Owner, err)
	}
}

func TestHistoryReplacesWhatIsNone(t *testing.T) {
	srv := zktest.Start(t, zktest.Options{})
	r := newReader(t, srv)
	if _, err := r.zk.Create(t.Context(), "/h/web/n1", []byte("somebody was here")); err != nil {
		t.Fatal(err)
	}
	h, hook, stop := scribe(t, []string{srv.Addr()}, "n1")
	h.Add(verdict(noon, "192.0.2.1", "announce"))
	r.await("/h/web/n1", "announce")
	stop()
	if e := hook.LastEntry(); e == nil || e.Level != logrus.WarnLevel || e.Data["path"] != "/h/web/n1" {
		t.Errorf("the log says %+v", e)
	}
}

// TestHistoryGoesOnAfterInterference: somebody deletes it, or writes to it, while it is being kept.
func TestHistoryGoesOnAfterInterference(t *testing.T) {
	srv := zktest.Start(t, zktest.Options{})
	r := newReader(t, srv)
	h, _, _ := scribe(t, []string{srv.Addr()}, "n1")
	h.Add(verdict(noon, "192.0.2.1", "announce"))
	r.await("/h/web/n1", "announce")
	if _, err := r.zk.Delete(t.Context(), "/h/web/n1", Any); err != nil {
		t.Fatal(err)
	}
	h.Add(verdict(noon, "192.0.2.1", "withdraw"))
	r.await("/h/web/n1", "withdraw")
	data, err := json.Marshal(history{Node: "n1", Changes: []chapter{{Change: verdict(noon, "", "another")}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.zk.Set(t.Context(), "/h/web/n1", data, Any); err != nil {
		t.Fatal(err)
	}
	h.Add(verdict(noon, "192.0.2.1", "hold"))
	r.await("/h/web/n1", "another", "hold")
}

// TestHistoryWaitsForZooKeeper: what happens while it is away is written when it is back, and nobody waits meanwhile.
func TestHistoryWaitsForZooKeeper(t *testing.T) {
	srv := zktest.Start(t, zktest.Options{})
	r := newReader(t, srv)
	h, _, _ := scribe(t, []string{srv.Addr()}, "n1")
	h.Add(verdict(noon, "192.0.2.1", "announce"))
	r.await("/h/web/n1", "announce")
	srv.Kill()
	for i := range 2 * maxChanges {
		h.Add(verdict(noon.Add(time.Duration(i)*time.Second), "192.0.2.1", fmt.Sprint(i)))
	}
	if err := srv.Restart(); err != nil {
		t.Fatal(err)
	}
	var want []string
	for i := range maxChanges {
		want = append(want, fmt.Sprint(i+maxChanges))
	}
	r.await("/h/web/n1", want...)
}

// TestHistoryEndsWithoutZooKeeper: the end of the process is not held up.
func TestHistoryEndsWithoutZooKeeper(t *testing.T) {
	h, _, stop := scribe(t, []string{"127.0.0.1:1"}, "n1")
	h.Add(verdict(noon, "192.0.2.1", "announce"))
	time.Sleep(50 * time.Millisecond) // into its first try
	began := time.Now()
	stop()
	if took := time.Since(began); took > historyLast+stopWithin {
		t.Errorf("it took %v", took)
	}
}

// FuzzHistory: whatever lies there, it is read without harm, and what is read can be written and read again.
func FuzzHistory(f *testing.F) {
	f.Add([]byte(`{"node":"n1","changes":[{"at":"2026-01-02T12:00:00Z","what":"verdict","vips":["192.0.2.1","192.0.2.2"],"to":"announce"}]}`))
	f.Add([]byte(`{"node":"n1","changes":[{"at":"x"}]}`))
	f.Add([]byte(`{"node":"n1","changes":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := decodeHistory("n1", data)
		if err != nil {
			return
		}
		again, kept := encodeHistory(h)
		if len(again) > maxHistory {
			t.Fatalf("%d bytes", len(again))
		}
		back, err := decodeHistory("n1", again)
		if err != nil || len(back.Changes) != len(kept) {
			t.Fatalf("%s: %v", again, err)
		}
	})
}

// TestHistoryMoves: after a reload it goes on at another path, and a service that is gone has none any more.
func TestHistoryMoves(t *testing.T) {
	srv := zktest.Start(t, zktest.Options{})
	r := newReader(t, srv)
	h, _, _ := scribe(t, []string{srv.Addr()}, "n1")
	h.Add(verdict(noon, "192.0.2.1", "announce"))
	r.await("/h/web/n1", "announce")
	h.Reconfigure(map[string]string{"web": "/elsewhere/n1"})
	h.Add(verdict(noon, "192.0.2.1", "withdraw"), Change{At: noon, What: "health", Service: "dns", To: "healthy"})
	r.await("/elsewhere/n1", "withdraw")
	r.await("/h/web/n1", "announce")
	if _, found, err := r.zk.Get(t.Context(), "/h/dns/n1"); err != nil || found {
		t.Errorf("a service that is gone has a history: %v", err)
	}
}
