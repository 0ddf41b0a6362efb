package zkstate

import (
	"strings"
	"testing"
	"time"
)

// TestRecordWhoseWritingIsUnknown has the connection lost while the status record is written, and the wish go back meanwhile
// to what the record said before: what was written must not stay.
func TestRecordWhoseWritingIsUnknown(t *testing.T) {
	m, now := NewMachine(testConfig(), quiet()), epoch
	tr := newTree(func(int64, string) {})
	lose := false // the answers to writings
	var step func(in Input)
	step = func(in Input) {
		now = now.Add(time.Millisecond)
		for _, c := range m.Step(now, in).Calls {
			res := tr.serve(0x100, "n1", c)
			if !lose || c.Op != OpSet {
				step(res)
			}
		}
	}
	want := func(health string) {
		step(SetWant{Want{Statuses: map[string]*Status{"web": {Node: "n1", Instance: "i1", Health: health}}}})
	}
	settle := func() {
		for range 2000 {
			step(Tick{})
		}
	}
	step(Tick{})
	want("healthy")
	step(SessionUp{1, 0x100, 4 * time.Second})
	settle()
	lose = true
	want("unhealthy")
	settle()
	want("healthy")
	step(SessionDown{1})
	lose = false
	step(SessionUp{1, 0x100, 4 * time.Second})
	settle()
	if got := string(tr.nodes[testConfig().Services[0].StatusPath].data); !strings.Contains(got, `"healthy"`) {
		t.Errorf("the record says %s", got)
	}
}
