package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// maxBody is how much of an answer's body is read; the node's name is in its first line.
const maxBody = 4 << 10

// probeHTTP asks target for / until ctx is done, with a connection for each request, and then waits for the last answers.
func probeHTTP(ctx context.Context, target netip.AddrPort, every, timeout time.Duration, t *tracker) {
	client := &http.Client{
		Timeout:       timeout,
		Transport:     &http.Transport{DisableKeepAlives: true}, // and no proxy: the VIP itself is asked
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	var wg sync.WaitGroup
	pace(ctx, every, func() {
		n := t.send(time.Now())
		wg.Go(func() { // not bound to ctx: the last ones are waited for
			if node, err := ask(client, "http://"+target.String()+"/"); err == nil {
				t.answer(n, time.Now(), node)
			}
		})
	}, t.skip)
	wg.Wait()
}

// ask returns the first line of a page. Anything but status 200 is an error.
func ask(client *http.Client, url string) (string, error) {
	resp, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("get %s: %s", url, resp.Status)
	}
	line, err := bufio.NewReader(io.LimitReader(resp.Body, maxBody)).ReadString('\n')
	if err != nil && err != io.EOF {
		return "", err
	}
	return strings.TrimSpace(line), nil
}
