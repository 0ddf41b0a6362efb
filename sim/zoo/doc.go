// Package zoo is a model of ZooKeeper 3.8 and of the client library go-zookeeper 1.0.4 as zkstate uses it (its guard, its
// pacing, its host provider included), on a virtual clock and with faults. A Client stands where zkstate's client
// connection stands: it takes Calls and pushes Inputs.
//
// What it does and does not do:
//
//   - Everything happens on the goroutine that runs the clock. Every choice comes from the generator that New was given,
//     so equal seeds give equal runs.
//   - No ping is an event. While a connection is well nothing happens on it; what the pings have told is worked out when
//     something breaks it.
//   - Every server has a tree of its own and takes transactions from one log, later than the leader does: a reader may see
//     what was, a session never goes back. The log is the truth: what is in it survives every crash.
//   - Servers fail towards each other only by being killed or frozen: there is no partition between them. ACLs, quotas,
//     sequential and container nodes are left out.
//   - With ToHost cut alone, what the host sends goes on arriving, although TCP would soon send no more for want of
//     acknowledgements.
//
// TestHonest plays scripts on the model and on a real server and compares.
package zoo
