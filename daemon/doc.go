// Package daemon decides which VIPs this node announces, and keeps doing so while the world around it changes.
//
// Everything that happens (a neighbor, ZooKeeper, a check, a signal, a timer) becomes one Event on one channel. One
// goroutine, the Loop, owns the Core and hands it each event together with the time. The Core is a plain struct without
// goroutines, clock or I/O: Step returns everything that must hold from now on, and the Loop passes that to the edges,
// which work out the difference to what they wrote before.
//
//	exabgp.Process ─┐                              ┌─▶ exabgp.Process.Set   routes to ExaBGP
//	zkstate.Session ─┼─▶ chan Event ─▶ Loop ▶ Core ─┤
//	health.Checker ─┘        one goroutine         └─▶ zkstate.Session.Set  claims, status records
//	links, signals, timer ┘
//
// The contract of a caller of Core, in order:
//  1. Step is called with every event, in the order in which the events were received, and with a time that never goes back.
//  2. Step is called with a Tick no later than Decision.Wake.
//  3. Decision.Table goes to ExaBGP before Decision.Want goes to ZooKeeper: where both change because a check failed, the
//     route goes first and the claim after it, without waiting for the first to be carried out.
//  4. After Decision.Exit is not Stay, Step is not called again.
//
// What it deliberately does not do: read stdin or write stdout, run a check, talk to ZooKeeper, log from the Core, or
// remember what was written (the edges do).
package daemon
