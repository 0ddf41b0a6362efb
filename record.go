package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/sirupsen/logrus"

	"exazk/exabgp"
)

// record is a small file that tells the next process which routes this one may have left in ExaBGP: a VIP that was taken out
// of the configuration while no process ran would else be announced for as long as ExaBGP lives. It lies in the run-time
// directory of ExaBGP's unit, which goes with ExaBGP and its routes.
type record struct {
	path string
	next chan []exabgp.Route // the newest only
	log  *logrus.Entry
}

// recorded is the file's content.
type recorded struct {
	Routes []recordedRoute `json:"routes"`
}

type recordedRoute struct {
	Prefix   netip.Prefix `json:"prefix"`
	PathID   uint32       `json:"path_id,omitempty"`
	Neighbor netip.Addr   `json:"neighbor,omitzero"`
}

// recordName is the name for the process of a configuration file: that of the file, and what tells it from one of the same name in
// another directory, of another process of the same ExaBGP.
func recordName(file string) string {
	path, err := filepath.Abs(file)
	if err != nil { // the working directory is gone
		path = file
	}
	sum := sha256.Sum256([]byte(path))
	return strings.TrimSuffix(filepath.Base(file), filepath.Ext(file)) + "-" + hex.EncodeToString(sum[:4])
}

// newRecord is nil where there is no run-time directory (systemd.exec(5), RUNTIME_DIRECTORY).
func newRecord(name string, log *logrus.Entry) *record {
	dir, _, _ := strings.Cut(os.Getenv("RUNTIME_DIRECTORY"), ":")
	if dir == "" {
		log.Debug("no RUNTIME_DIRECTORY: VIPs that are removed from the configuration while exazk is not running are not withdrawn")
		return nil
	}
	name = strings.Map(func(r rune) rune {
		if r == '/' || r == 0 {
			return '_'
		}
		return r
	}, name)
	return &record{path: filepath.Join(dir, "exazk-"+name+".routes"), next: make(chan []exabgp.Route, 1), log: log}
}

// read is what the process before this one left. A file that cannot be used is as none, and is said to be.
func (r *record) read() []exabgp.Route {
	data, err := os.ReadFile(r.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var content recorded
	if err == nil {
		err = json.Unmarshal(data, &content)
	}
	var routes []exabgp.Route
	for _, k := range content.Routes {
		if !k.Prefix.IsValid() || k.Prefix != k.Prefix.Masked() {
			err = fmt.Errorf("%q is not a prefix", k.Prefix)
			break
		}
		routes = append(routes, exabgp.Route{Prefix: k.Prefix, PathID: k.PathID, Neighbor: k.Neighbor.WithZone("")})
	}
	if err != nil {
		r.log.WithFields(logrus.Fields{"file": r.path, "reason": err.Error()}).Warn("record of routes is of no use: VIPs that were removed from the configuration meanwhile are not withdrawn; compare \"exabgpcli show adj-rib out\"")
		return nil
	}
	return routes
}

// Keep implements daemon.Keeper.
func (r *record) Keep(routes []exabgp.Route) {
	select {
	case <-r.next:
	default:
	}
	r.next <- routes // one sender: there is room
}

// run writes what it is told to keep until ctx is done.
func (r *record) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case routes := <-r.next:
			if err := r.write(routes); err != nil {
				r.log.WithFields(logrus.Fields{"file": r.path, "reason": err.Error()}).Warn("record of routes not written; remedy: make the directory writable for ExaBGP's user")
			}
		}
	}
}

// write replaces the file at once: a process that is killed meanwhile leaves the one before.
func (r *record) write(routes []exabgp.Route) error {
	content := recorded{Routes: make([]recordedRoute, 0, len(routes))}
	for _, k := range routes {
		content.Routes = append(content.Routes, recordedRoute{k.Prefix, k.PathID, k.Neighbor})
	}
	data, err := json.Marshal(content)
	if err != nil {
		return err
	}
	temp := r.path + ".new"
	if err := os.WriteFile(temp, append(data, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(temp, r.path)
}
