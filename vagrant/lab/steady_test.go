package lab

import (
	"slices"
	"testing"
)

// standbyPaths are those of the first VIP as they should be, in BIRD's order.
func standbyPaths() []Route {
	return []Route{
		{Via: "r1", Best: true, HasMED: true, MED: 100, ASPath: []uint32{65001, 65101}},
		{Via: "r3", HasMED: true, MED: 200, ASPath: []uint32{65003, 65103, 65103}},
		{Via: "r2", HasMED: true, MED: 300, ASPath: []uint32{65002, 65102, 65102, 65102}},
	}
}

func TestCheckStandby(t *testing.T) {
	if err := checkStandby(standbyPaths(), 0); err != nil {
		t.Error(err)
	}
	for name, spoil := range map[string]func([]Route) []Route{
		"none":                func([]Route) []Route { return nil },
		"a backup is missing": func(p []Route) []Route { return p[:2] },
		"a path too much":     func(p []Route) []Route { return append(p, p[2]) },
		"ranks are swapped":   func(p []Route) []Route { p[1].Via, p[2].Via = p[2].Via, p[1].Via; return p },
		"a backup is in use":  func(p []Route) []Route { p[0].Best, p[1].Best = false, true; return p },
		"no MED":              func(p []Route) []Route { p[0].HasMED = false; return p },
		"MED of another rank": func(p []Route) []Route { p[2].MED = 200; return p },
		"no prepends":         func(p []Route) []Route { p[1].ASPath = []uint32{65003, 65103}; return p },
	} {
		if err := checkStandby(spoil(slices.Clone(standbyPaths())), 0); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
