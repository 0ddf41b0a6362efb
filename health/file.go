package health

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// File passes while a file is there, whatever its kind, or with Absent while it is not: the marker file by which an operator
// switches off ExaBGP's own healthcheck ("disable"). A symbolic link that leads nowhere is not there.
type File struct {
	Path   string
	Absent bool
}

func (p *File) String() string {
	if p.Absent {
		return "no file " + p.Path
	}
	return "file " + p.Path
}

// Validate implements Probe.
func (p *File) Validate() error {
	var f faults
	switch {
	case p.Path == "":
		f.add("path", "missing; remedy: name the file")
	case !filepath.IsAbs(p.Path):
		f.add("path", "%q depends on the directory that ExaBGP starts exazk in; remedy: write the whole path, from /", p.Path)
	}
	f.text("path", p.Path)
	return f.err()
}

func (p *File) prepare(o options) runner { return &looker{options: o, look: p.look} }

func (p *File) look(context.Context) (string, error) {
	_, err := os.Stat(p.Path)
	gone := errors.Is(err, fs.ErrNotExist)
	switch {
	case err != nil && !gone:
		return "", err // it says nothing about the file: no reason to announce
	case gone == p.Absent && gone:
		return p.Path + " is not there", nil
	case gone == p.Absent:
		return p.Path + " is there", nil
	case gone:
		return "", fmt.Errorf("%s is not there", p.Path)
	default:
		return "", fmt.Errorf("%s is there", p.Path)
	}
}
