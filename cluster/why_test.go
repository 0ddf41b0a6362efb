package cluster

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"
	"time"

	"exazk/daemon"
	"exazk/zkstate"
)

// reasons are the constants of daemon.Reason, as its source has them.
func reasons(t *testing.T) []daemon.Reason {
	file, err := parser.ParseFile(token.NewFileSet(), "../daemon/core.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var all []daemon.Reason
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if id, ok := spec.Type.(*ast.Ident); ok && id.Name == "Reason" {
			word, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, daemon.Reason(word))
		}
		return true
	})
	if len(all) < 20 {
		t.Fatalf("found %q only", all)
	}
	return all
}

// TestEveryReasonHasASentence, with and without all that could be told beside it.
func TestEveryReasonHasASentence(t *testing.T) {
	seen := map[string]daemon.Reason{}
	for _, reason := range reasons(t) {
		for _, bare := range []bool{true, false} {
			s := well()
			s.verdict("n1", vip1, "withdraw", "authoritative", string(reason))
			if !bare {
				s.route("n1", vip1, func(r *zkstate.StatusRoute) { r.Detail = "the detail" })
				s.record("n1", func(st *zkstate.Status) { st.HealthDetail, st.Note = "the output", "the note" })
				s.Claims[vip1] = Claim{Node: "n2"}
			}
			v := s.view()
			e, _ := Why(&v, "web", vip1)
			because := e.Nodes[0].Because
			if because == "" || strings.Contains(because, "does not know") || strings.Contains(because, "%!") {
				t.Errorf("%s: %q", reason, because)
			}
			if other := seen[because]; bare && other != "" {
				t.Errorf("%s and %s: %q", reason, other, because)
			}
			seen[because] = reason
			if e.Nodes[0].Word != string(reason) {
				t.Errorf("%s: word %q", reason, e.Nodes[0].Word)
			}
		}
	}
}

// TestDecidingFact: each cause is named by what decided, whatever else is wrong.
func TestDecidingFact(t *testing.T) {
	for name, tt := range map[string]struct {
		edit func(play)
		node string
		word string
		want string // part of the sentence
	}{
		"own":        {func(play) {}, "n1", "authoritative", "it is the node's own"},
		"claimed":    {func(play) {}, "n2", "claimed", "it is claimed by n1"},
		"sick":       {play.unwell, "n1", "unhealthy", "its check fails since 2026-01-02 11:59:00Z (1m0s): exit status 1: no database"},
		"taken over": {play.unwell, "n2", "unclaimed", "nobody claims it; its owner n1: unhealthy"},
		"maintenance": {func(s play) {
			s.Maintenance["n1"] = Entry{Note: "new disk, by root@n1", Since: began}
			s.record("n1", func(st *zkstate.Status) { st.Maintenance = "present" })
			s.verdict("n1", vip1, "withdraw", "authoritative", "maintenance")
			s.route("n1", vip1, func(r *zkstate.StatusRoute) { r.Detail = "taken over by n2" })
		}, "n1", "maintenance", "in maintenance since 2026-01-02 11:00:00Z (1h0m): new disk, by root@n1; taken over by n2"},
		"no neighbor": {func(s play) {
			s.record("n1", func(st *zkstate.Status) { st.Neighbors[0].State = "link-down" })
			s.route("n1", vip1, func(r *zkstate.StatusRoute) { r.Announced, r.Unheard = false, true })
		}, "n1", "no neighbor", "no neighbor that it is for is up (198.51.100.1 is link-down)"},
		"refused": {func(s play) {
			s.route("n1", vip1, func(r *zkstate.StatusRoute) { r.Announced, r.Refused = false, true })
		}, "n1", "refused", "the route is refused by ExaBGP; its log says why"},
		"not acknowledged": {func(s play) {
			s.route("n1", vip1, func(r *zkstate.StatusRoute) { r.Announced = false })
		}, "n1", "not acknowledged", "ExaBGP has not acknowledged the route yet"},
		"claimed by a stranger": {func(s play) {
			s.verdict("n1", vip1, "withdraw", "backup", "conflict")
			s.Claims[vip1] = Claim{}
		}, "n1", "conflict", "somebody else claims it: somebody who does not say who"},
		"absent": {func(s play) {
			s.gone("n1")
			s.Nodes = []string{"n1"}
		}, "n1", "absent", "n1 has no status record"},
		"absent and drained": {func(s play) {
			s.gone("n1")
			s.Maintenance["n1"] = Entry{}
		}, "n1", "absent", "n1 has no status record"},
		"a reason of a newer version": {func(s play) { s.verdict("n1", vip1, "withdraw", "backup", "novel") }, "n1", "novel", `"novel", a reason that this version does not know`},
	} {
		t.Run(name, func(t *testing.T) {
			s := well()
			tt.edit(s)
			v := s.view()
			e, _ := Why(&v, "web", vip1)
			for _, c := range e.Nodes {
				if c.Node == tt.node {
					if c.Word != tt.word || !strings.Contains(c.Because, tt.want) {
						t.Errorf("got %q, %q", c.Word, c.Because)
					}
					return
				}
			}
			t.Errorf("%s is not in %+v", tt.node, e.Nodes)
		})
	}
}

// TestStoryIsOfTheVIP: newest first, and nothing of other nodes, VIPs and services.
func TestStoryIsOfTheVIP(t *testing.T) {
	s := well()
	s.Changes = []Change{
		{At: noon.Add(-3 * time.Second), Node: "n1", What: "health", Service: "web", To: "unhealthy"},
		{At: noon.Add(-2 * time.Second), Node: "n1", What: "verdict", Service: "web", VIP: vip1, To: "withdraw"},
		{At: noon.Add(-2 * time.Second), Node: "n1", What: "verdict", Service: "web", VIP: vip2, To: "withdraw"},
		{At: noon.Add(-1 * time.Second), Node: "n1", What: "zookeeper", To: "lost"},
		{At: noon, Node: "n1", What: "health", Service: "dns", To: "healthy"},
		{At: noon, Node: "n2", What: "health", Service: "web", To: "healthy"},
	}
	v := s.view()
	e, _ := Why(&v, "web", vip1)
	var got []string
	for _, c := range e.Nodes[0].Changes {
		got = append(got, Tell(c))
	}
	if want := "zookeeper lost, verdict 192.0.2.1 withdraw, health unhealthy"; strings.Join(got, ", ") != want {
		t.Errorf("got %q, want %s", got, want)
	}
	if _, found := Why(&v, "web", "192.0.2.99"); found {
		t.Error("a VIP that nobody has is explained")
	}
}

func TestAge(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 59 * time.Second: "59s", 61 * time.Second: "1m1s", 3*time.Hour + 2*time.Minute: "3h2m", 50 * time.Hour: "2d2h",
	} {
		if got := Age(d); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}
