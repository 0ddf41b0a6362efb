package daemon

import (
	"fmt"
	"testing"
	"time"

	"exazk/exabgp"
	"exazk/health"
)

// TestReloadNewSerials: a VIP that goes and comes back, or moves to another service, wants its route under another serial each time.
// exabgp.Writer says once of each that it stands, and may never have seen the VIP gone.
func TestReloadNewSerials(t *testing.T) {
	text := func(apex, www string) *Config {
		cfg, err := ParseConfig("test.toml", fmt.Sprintf(`node = "node1"
zookeeper.hosts = ["zk:2181"]
[[service]]
name = "apex"
backup_for = [%s]
check.command = "true"
[[service]]
name = "www"
backup_for = [%s]
check.command = "true"
`, apex, www))
		if err != nil {
			t.Fatal(err)
		}
		return cfg
	}
	const stays, moves = `"10.20.255.1"`, `"10.20.255.2"`
	with, without := text(stays+", "+moves, `"10.20.255.3"`), text(stays, `"10.20.255.3"`)
	c := NewCore(with, Identity{Node: "node1"})
	now := time.Unix(0, 0)
	serials, all := map[uint64]string{}, map[exabgp.Route]bool{}
	for i, cfg := range []*Config{with, without, with, text(stays, `"10.20.255.3", `+moves), with} {
		c.Step(now, Reload{Config: cfg})
		c.Step(now, FromHealth{health.Changed{Service: "www", State: health.Unhealthy}})
		d := c.Step(now, FromHealth{health.Changed{Service: "apex", State: health.Unhealthy}})
		for _, r := range d.Table.Routes {
			switch r.Prefix.String() {
			case "10.20.255.1/32":
				all[r] = true
			case "10.20.255.2/32":
				if first, twice := serials[r.Serial]; twice {
					t.Errorf("configuration %d has %+v, with the serial of %s", i, r, first)
				}
				serials[r.Serial] = fmt.Sprintf("%d: %+v", i, r)
			}
		}
	}
	if len(serials) != 5 || len(all) != 1 {
		t.Errorf("%d serials of the VIP that moves, and %v of the one that stays; want 5 and 1", len(serials), all)
	}
}
