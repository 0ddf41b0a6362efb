package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"exazk/sim"
)

// TestRun checks what people and other programs rely on: exit codes, the closing lines, the story, the picture.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	script, svg := filepath.Join(dir, "plan"), filepath.Join(dir, "seed.svg")
	if err := os.WriteFile(script, []byte(sim.Draw(5).String()), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args string
		code int
		out  string // in either stream
	}{
		{"-seeds 3 -from 2", 0, "sim: 0 violations\n"},
		{"-seed 5 -shrink", 0, "boots"},
		{"-script " + script + " -svg " + svg, 0, "boots"},
		{"-script " + dir + "/missing", 1, "missing"},
		{"-seed 5 -script " + script, 2, "excludes"},
		{"-parallel 0", 2, "positive"},
		{"-nonsense", 2, "not defined"},
		{"-h", 0, "first seed"},
	} {
		var stdout, stderr bytes.Buffer
		code := run(strings.Fields(tt.args), &stdout, &stderr)
		if out := stdout.String() + stderr.String(); code != tt.code || !strings.Contains(out, tt.out) {
			t.Errorf("%s: exit code %d, want %d and %q in\n%.500s", tt.args, code, tt.code, tt.out, out)
		}
	}
	if picture, err := os.ReadFile(svg); err != nil || !bytes.Contains(picture, []byte("<svg")) {
		t.Errorf("no picture: %v", err)
	}
}
