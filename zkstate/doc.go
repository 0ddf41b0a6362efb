// Package zkstate keeps this node's side of the agreement that lies in ZooKeeper: it holds and gives up the claims of
// the VIPs, writes the status records, and tells what the other nodes and the operator have written there.
//
// A Session is the whole of it for the daemon; commands of an operator use an Admin, which gives up in seconds where a
// Session goes on for years. A Session's caller
//
//  1. makes one with New,
//  2. calls Run from a goroutine of its own; every Event goes to emit, in order, from that goroutine only,
//  3. calls Set, from any goroutine, whenever what should lie in ZooKeeper changes; the newest wish counts,
//  4. calls Reconfigure, from any goroutine, with all services when they have changed, and then Set; readings of a changed
//     service that began before the call are of the one before, and to be ignored,
//  5. calls Resync when it finds out that the process slept,
//  6. ends it all by cancelling Run's context: what is held is deleted and the session closed, within 1.2 s.
//
// Machine takes all decisions. It is a plain struct: no goroutine, no clock, no I/O; equal inputs give equal output. The
// Session around it owns the client of the library, carries out the calls that the Machine asks for, each in a goroutine of
// its own, and decides nothing. A simulator can drive a Machine in its place.
//
// New services are taken over as a difference, in whatever state the session is. One that stays what it was is left in peace:
// its claims keep their znodes, nothing is asked for it, nothing is told. Of one that changes or goes, the claims and the status
// record that are its own no longer are deleted, after a look whether they are ours and with an eye on calls that are on their
// way still; then what is new is read, and made as the next wish says. Servers and session timeout are those of New.
//
// What is relied on:
//
//   - Events of the client library are hints. What is emitted was read, in the session that it names, and a reading that
//     failed in any part is not emitted at all: an error never looks like an empty directory.
//   - After any error that is not ZooKeeper's own answer the outcome of a call is unknown, and is read back.
//   - An ephemeral node is ours if its owner is our session. Nothing else makes it so.
//
// History is apart from all of this: it keeps a node's last changes for people, with a session of its own.
//
// What it deliberately does not do: it draws no conclusion from a claim that is missing, it never removes a claim that is
// neither ours nor our own ghost, and it looks up nothing that is not configured.
package zkstate
