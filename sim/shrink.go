package sim

import (
	"slices"

	"exazk/sim/fault"
)

// Shrink leaves faults out of a plan whose run ends in a violation, as long as it still ends in one of the same invariant.
func Shrink(p Plan) Plan {
	r := Play(p, false)
	if r.Violation == nil {
		return p
	}
	fails := func(faults []fault.Fault) bool {
		v := Play(Plan{p.Knobs, faults}, false).Violation
		return v != nil && v.Invariant == r.Violation.Invariant
	}
	p.Faults = fewest(p.Faults, fails)
	return p
}

// fewest leaves out what does not matter, ever smaller pieces: without any one of the rest fails is false.
func fewest(faults []fault.Fault, fails func([]fault.Fault) bool) []fault.Fault {
	faults = slices.Clone(faults)
	for size := (len(faults) + 1) / 2; size > 0; size /= 2 {
		for again := true; again; {
			again = false
			for i := 0; i < len(faults); {
				rest := slices.Delete(slices.Clone(faults), i, min(i+size, len(faults)))
				if fails(rest) {
					faults, again = rest, true
				} else {
					i += size
				}
			}
		}
	}
	return faults
}
