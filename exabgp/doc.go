// Package exabgp is our end of ExaBGP's process API: it reads the lines that ExaBGP writes to our standard input and
// writes text commands to our standard output. It knows how to say and to hear; what to say is decided elsewhere.
//
// # Parts
//
// [Decode] turns one line into one [Verdict]. [Dialect.Command] turns one verdict about a route into one command, and
// [ParseCommunities] and its like bring what a configuration says into the form that a [Route] has.
// [Writer] is the state machine in between: which command is due, which reply belongs to it, when to ask for the
// sessions. It has no goroutine, does no I/O and reads no clock. [Process] is the thin shell around it that owns the
// two pipes.
//
// # Contract
//
//  1. Call [New] once, [Process.Run] once, [Process.Set] as often as wanted, from any goroutine, before Run too.
//  2. Set replaces the table of which nothing is written yet and returns at once. Nothing but the one command in flight
//     is ever queued, so after a pause of any length the newest table is what is written.
//  3. emit is called from one goroutine, in order. It may block: that delays neither the reading nor the writing.
//  4. A route that is missing in the table is left as it is. Which route it is, prefix, path identifier and neighbor say; one for
//     all neighbors and those for single ones take each other's place. A new Epoch makes every route of the table due again, save
//     withdraws of what ExaBGP does not hold.
//  5. A refused command is tried again without being told, with a growing pause, until another one is wanted.
//  6. A neighbor that ExaBGP does not have, or not for this process, makes its routes refused and holds up no others. 3.4 to 5.0
//     compare its address as text, so one that is written in another way in ExaBGP's configuration is not found.
//  7. [Gone] is the last event; after it Run returns [ErrGone].
//
// # Dialects
//
// 3.4, 4.2 and 5.0 share their commands; only the query for the sessions is another one in 3.4, and it has no replies. API 6, what
// follows 5.0 by default, begins each command with its target and answers queries with JSON. Which one is spoken is set, or told by
// ExaBGP's environment or by the version in its first message, or else found by asking: the summary first, then both
// other queries at once. Where it turns out to be another one than thought, all is written again.
//
// API 6 gives a command for a neighbor that it does not have to all neighbors (main branch of August 2026; later it refuses). So it is
// written only once "peer list" has shown the neighbor. That list holds those of other processes too, and a command for one of
// them goes astray all the same: every neighbor that is named must have this process in its "api" block. Nor does it tell
// path identifiers: a withdraw of one path is written while ExaBGP holds any of the prefix.
//
// # How replies are paired
//
// ExaBGP 4.2 and 5.0 answer route commands and "show neighbor summary" from one queue, in order, but leave replies out
// where a handler fails, and a respawned process receives those that are owed to its predecessor. So one command is in
// flight at a time, and the header line of the summary (with API 6 the list of the peers), which is like no reply, marks the
// place in the stream from which on replies are ours. The same query, sent after a reply stayed away, keeps a late one from
// being taken for the next command's.
//
// With "exabgp.api.ack" false, and always with 3.4, there are no replies. A command then counts as accepted once it
// is written.
//
// # What is not written
//
// ExaBGP keeps to itself an announce of what it holds, but passes on every withdraw, needed or not. So a new process, and
// an old one when a session has come up, asks ExaBGP first which routes it holds, and takes a withdraw of any other for
// accepted. A respawn that changes nothing is thus no UPDATE to anybody. A withdraw is written without asking where we
// announced the route ourselves, where there are no replies, and where the answer is missing or not beyond doubt.
//
// # Drift
//
// What was acknowledged may be changed behind our back, by an operator's command say. With [Options.DriftCheck] the Writer asks now
// and then what ExaBGP holds, writes again what differs, and emits [Drifted] where that is news. It needs replies.
//
// # Goroutines
//
// Run owns a reader, a writer and an emitter. ExaBGP up to 5.0 blocks, sessions and all, when the pipe towards us is
// full, so the reader waits for nothing but the pipe: it hands over to a queue without a limit, which the machine empties
// without ever waiting either. The second queue, in front of emit, grows only while emit blocks: by under 300 bytes for
// every change of a neighbor (two for each attempt to connect, whose rate ExaBGP bounds) and for every command answered.
// Successive answers to the query for the sessions take one place. No change of a neighbor is ever dropped.
//
// A read or a write on an inherited pipe can not be interrupted. Run therefore waits for the emitter only: the reader
// stays in its read until the process ends, and the writer in its write where ExaBGP does not read.
//
// # Not done here
//
// No policy, no check that a next hop suits the session or that a neighbor understands path identifiers (without ADD-PATH all
// paths of a prefix are one route to it, and the withdraw of any takes it away), no message but those about sessions, and
// SIGPIPE is the caller's: a write to a broken standard output must return EPIPE.
package exabgp
