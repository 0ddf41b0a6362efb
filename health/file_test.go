package health

import (
	"os"
	"path/filepath"
	"testing"
)

func TestFile(t *testing.T) {
	leaksNothing(t)
	dir := t.TempDir()
	there, gone := filepath.Join(dir, "there"), filepath.Join(dir, "gone")
	if err := os.WriteFile(there, nil, 0); err != nil {
		t.Fatal(err)
	}
	dangling, below := filepath.Join(dir, "link"), filepath.Join(there, "x")
	if err := os.Symlink(gone, dangling); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		path                 string
		exists, absent, says string
	}{
		{there, "pass", "fail", there + " is there"},
		{dir, "pass", "fail", " is there"},
		{gone, "fail", "pass", gone + " is not there"},
		{filepath.Join(gone, "x"), "fail", "pass", " is not there"},
		{dangling, "fail", "pass", " is not there"},
		{below, "fail", "fail", "not a directory"}, // an error says nothing about the file
	}
	for _, tt := range tests {
		expect(t, &File{Path: tt.path}, tt.exists, tt.says)
		expect(t, &File{Path: tt.path, Absent: true}, tt.absent, tt.says)
	}
}
