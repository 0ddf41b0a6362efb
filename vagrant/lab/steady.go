package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// MEDs of the sample configurations.
const (
	OwnerMED  = 100
	BackupMED = 200
)

// Ask gets the page of a VIP from the client, over a connection of its own, and returns the name of the load balancer that
// answered. It waits two seconds at most.
func (l *Lab) Ask(ctx context.Context, vip netip.Addr) (string, error) {
	return l.Host("client").get(ctx, vip.String())
}

// get asks the web server at an address, from the host.
func (h *Host) get(ctx context.Context, addr string) (string, error) {
	client := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return h.Dial(ctx, network, address)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/", nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s answers %s", addr, resp.Status)
	}
	return strings.TrimSpace(string(body)), nil
}

// StandbyMEDStep is how much more MED each further standby backup has.
const StandbyMEDStep = 100

// Steady says what keeps the lab from its steady state; nil if nothing does. In the steady state r0 has exactly one path to
// each VIP, the owner's with the MED of an owner, and the client reaches the owner. With Standby r0 has those of the backups as
// well, each further one with more MED and a longer AS path, and uses the owner's.
func (l *Lab) Steady(ctx context.Context) error {
	t, err := l.Routes("r0")
	if err != nil {
		return err
	}
	var errs []error
	for i, vip := range VIPs() {
		if l.opt.Standby {
			errs = append(errs, checkStandby(t.For(vip), i))
			continue
		}
		errs = append(errs, checkSteady(t.For(vip), vip, Leaf(balancers[i])))
	}
	if err := errors.Join(errs...); err != nil {
		return err // asking would only cost time
	}
	for i, vip := range VIPs() {
		if who, err := l.Ask(ctx, vip); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", vip, err))
		} else if who != balancers[i] {
			errs = append(errs, fmt.Errorf("%s is answered by %s", vip, who))
		}
	}
	return errors.Join(errs...)
}

func checkSteady(paths []Route, vip netip.Addr, leaf string) error {
	switch {
	case len(paths) == 0:
		return fmt.Errorf("%s has no route", vip)
	case len(paths) > 1:
		return fmt.Errorf("%s has %d paths, by %s", vip, len(paths), strings.Join(vias(paths), " and "))
	case paths[0].Via != leaf:
		return fmt.Errorf("%s goes by %s", vip, paths[0].Via)
	case !paths[0].HasMED || paths[0].MED != OwnerMED:
		return fmt.Errorf("%s has MED %d", vip, paths[0].MED)
	case !paths[0].Best:
		return fmt.Errorf("%s is not in use", vip)
	}
	return nil
}

// checkStandby wants the paths of the owner of the VIP with that index and of its backups, in r0's order of preference: that of
// their ranks.
func checkStandby(paths []Route, i int) error {
	vip := VIPs()[i]
	order := append([]string{balancers[i]}, StandbyOrder(i)...)
	if len(paths) != len(order) {
		return fmt.Errorf("%s has %d paths, by %s", vip, len(paths), strings.Join(vias(paths), " and "))
	}
	slices.SortStableFunc(paths, func(a, b Route) int { return cmp.Compare(len(a.ASPath), len(b.ASPath)) })
	for rank, lb := range order {
		p, node := paths[rank], uint32(balancer(lb))
		med := uint32(OwnerMED)
		if rank > 0 {
			med = BackupMED + uint32(rank-1)*StandbyMEDStep
		}
		// The leaf's AS number, and the load balancer's once more for each rank.
		path := append([]uint32{65000 + node}, slices.Repeat([]uint32{65100 + node}, rank+1)...)
		if p.Via != Leaf(lb) || !slices.Equal(p.ASPath, path) || !p.HasMED || p.MED != med || p.Best != (rank == 0) {
			return fmt.Errorf("%s has %+v as path %d, not that of %s by %v with MED %d", vip, p, rank, lb, path, med)
		}
	}
	return nil
}

// balancer is the number of a load balancer, from 1.
func balancer(lb string) int { return slices.Index(balancers, lb) + 1 }

// vias names the leaves that paths came by.
func vias(paths []Route) []string {
	var names []string
	for _, p := range paths {
		names = append(names, p.Via)
	}
	return names
}

// WaitSteady waits for the steady state until the context ends, and then says what was missing.
func (l *Lab) WaitSteady(ctx context.Context) error {
	for {
		err := l.Steady(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the lab is not in its steady state: %w", err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// Answers says who answers for each VIP, as text for people.
func (l *Lab) Answers(ctx context.Context) string {
	var b strings.Builder
	for _, vip := range VIPs() {
		who, err := l.Ask(ctx, vip)
		if err != nil {
			who = "nobody (" + err.Error() + ")"
		}
		fmt.Fprintf(&b, "%s is answered by %s\n", vip, who)
	}
	return b.String()
}
