// Package health runs the check of a service over and over and counts its results into a state.
//
// A Machine decides: it counts results in a row and says when the next run is due. It is a plain struct that reads no
// clock and does no I/O, so that a simulation can drive it. A Checker is the goroutine around it: it starts /bin/sh,
// waits, kills, and hands every change of state to its caller. There is one Checker for each service, so a slow check
// delays no other service and nothing else in the daemon.
//
// # The caller's duties
//
//  1. Call New with a validated Config and Run once, on a goroutine of its own.
//  2. Take each Changed that Run emits. While emit blocks no check runs, and nothing else is harmed.
//  3. Cancel the context to stop, and wait for Run to return: by then the running check is killed and reaped.
//  4. Set the process's umask to 022 before the first check. ExaBGP gives its children umask 0137, under which a
//     directory that a check makes cannot be entered; the umask belongs to the whole process, so it is not set here.
//
// # What a check may rely on
//
// The command is run by "/bin/sh -c" with / as its directory and as the user the daemon runs as. Its stdin is
// /dev/null. Its stdout and stderr are read by the daemon, which keeps the last line for the log: a check that prints
// gigabytes is not blocked and costs no memory. It never gets the daemon's own stdin and stdout, which are ExaBGP's
// command channel.
//
// Its environment is the daemon's, without the variables that begin with "exabgp" in any case (ExaBGP 4.2 leaks
// exabgp_cli_pipe, which makes every exabgp command below it speak to the wrong pipe), and with Config.Env added:
// EXAZK_SERVICE, EXAZK_NODE and EXAZK_VIPS come from the daemon that way. EXAZK_STATE is the state before this run:
// unknown, healthy or unhealthy.
//
// Exit status 0 is a success, everything else a failure: another status, a signal, a run that is not over after
// Config.Timeout, and one that could not be started.
//
// # What is killed
//
// Each run is a session (setsid(2)), and so a process group, of its own. After every run, a successful one too, what is
// left of the group gets SIGKILL: a check cannot leave a background process behind, and so none can pile up. After a
// timeout, and when the context is done, everything else in its session gets SIGKILL as well, because timeout(1) and
// "set -m" move commands to groups of their own. Only a process that made a session for itself (setsid, a daemon's
// double fork) is not found; it keeps running, with its output closed.
//
// The shell is reaped only after its group was killed: until then neither its process id nor its group's nor its
// session's can belong to anybody else.
//
// A process in uninterruptible sleep (a dead NFS server), or one that became another user's (sudo), survives our
// SIGKILL. Its run is a failure like any other, a second after the timeout, and until it ends each further run is a
// failure too without a new process being started.
//
// The kernel's parent-death signal (prctl(2), PR_SET_PDEATHSIG) is not used. It is sent when the thread that forked
// ends, which under Go is not when the process ends, and it would reach the shell only. So a check outlives a daemon
// that was killed with SIGKILL, until it ends by itself or writes to its broken pipe.
package health
