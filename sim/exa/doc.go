// Package exa is a model of ExaBGP 4.2 and of the router at the other end of its BGP sessions, on a virtual clock.
//
// [ExaBGP] stands at the other end of the two pipes of exabgp.Process: it takes the text that an exabgp.Writer writes and
// gives lines, as verdicts of exabgp.Decode. [Tor] is one router with its link to one host. Both are driven by a
// vclock.Clock and a rand.Rand: equal seeds give equal runs.
//
// # What is modelled
//
// The facts are those of ExaBGP 4.2.21 and BIRD 2.0.12, read in their source and measured; honest_test.go plays the same
// scripts with the real programs and compares. In ExaBGP's own terms:
//
//   - one turn of the reactor ("round"): every neighbor sends what is pending, up to 16 KiB of commands are read, and 50
//     steps of the queued ones are taken (reactor/loop.py, reactor/asynchronous.py);
//   - the Adj-RIB-Out and its buckets, in which changes of one prefix that come close together change places
//     (rib/outgoing.py);
//   - replies: at once for what is not understood, from the queue for routes and queries, none where a handler fails;
//   - lines are written with blocking writes: a process that does not read stops all of ExaBGP once 64 KiB wait;
//   - a process that ended is started again, and the sixth start in a slot of 64 s ends ExaBGP;
//   - sessions: attempts with a growing pause, hold timers, one of them in whole seconds, TCP that sends again.
//
// What costs nothing in reality costs nothing here: no event happens while nothing changes, save one for each KEEPALIVE where
// the process is told of those. Keepalives that nobody is told of are computed when something stops them.
//
// # What is not
//
// Reload, restart by a command, several processes, route refresh, graceful restart, static routes, neighbors with
// "adj-rib-out false", ADD-PATH towards the router, selectors beyond one address ("neighbor A announce ..."), commands beyond those that the table in command.go names: they
// panic. The order in which the summary lists several neighbors is chance with ExaBGP (it is a Python set) and that of the
// configuration here.
package exa
