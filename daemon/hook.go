package daemon

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"exazk/health"
)

// Hook is a command that is run when something changes; see package hooks.
type Hook struct {
	Command string        // run by /bin/sh -c; or
	Args    []string      // run without a shell
	On      []What        // what it is run for
	Timeout time.Duration // of one run
}

// hookKinds are all that a hook may be run for.
var hookKinds = []string{string(WhatVerdict), string(WhatHealth), string(WhatMaintenance), string(WhatNeighbor), string(WhatZooKeeper), string(WhatDrift), string(WhatProcess)}

type rawHook struct {
	Command anyValue      `toml:"command"` // a string for sh, or a list without a shell
	On      listValue     `toml:"on"`
	Timeout durationValue `toml:"timeout"`
}

func (r *rawHook) resolve(f *faults, key string) Hook {
	orDuration(&r.Timeout, 10*time.Second)
	h := Hook{Timeout: f.duration(key+".timeout", r.Timeout, 10*time.Millisecond, time.Hour)}
	switch words, bad := textOrList(r.Command.V); {
	case !r.Command.Set:
		f.add(key+".command", "missing; remedy: give the command that is to be run")
	case bad != "":
		f.add(key+".command", "%s", bad)
	default:
		if _, line := r.Command.V.(string); line {
			h.Command = words[0]
		} else {
			h.Args = words
		}
		f.probe(key, h.Run().Validate())
	}
	on := r.On.V
	if r.On.Err != "" {
		f.add(key+".on", "%s", r.On.Err)
	} else if !r.On.Set {
		on = []string{string(WhatVerdict)}
	} else if len(on) == 0 {
		f.add(key+".on", "empty, so it would never be run; remedy: list some of %s", strings.Join(hookKinds, ", "))
	}
	for _, what := range on {
		if !slices.Contains(hookKinds, what) {
			f.add(key+".on", "%q is not known; remedy: write some of %s", what, strings.Join(hookKinds, ", "))
		}
		h.On = append(h.On, What(what))
	}
	return h
}

func (h Hook) equal(o Hook) bool {
	return h.Command == o.Command && slices.Equal(h.Args, o.Args) && slices.Equal(h.On, o.On) && h.Timeout == o.Timeout
}

// Run is what the hook does, in the words of package health.
func (h Hook) Run() *health.Command { return &health.Command{Line: h.Command, Args: h.Args} }

func (h Hook) render(b *strings.Builder) {
	command := tomlList(h.Args)
	if len(h.Args) == 0 {
		command = tomlString(h.Command)
	}
	on := make([]string, len(h.On))
	for i, what := range h.On {
		on[i] = string(what)
	}
	fmt.Fprintf(b, "\n[[hook]]\ncommand = %s\non = %s\ntimeout = %q\n", command, tomlList(on), h.Timeout)
}
