// Package health runs the checks of a service over and over and counts their results into a state.
//
// A Probe says what is looked at: Command, HTTP, TCP, DNS, File or Systemd, plain data from the configuration. A Machine
// decides about one check: it counts results in a row and says when the next run is due. A Quorum makes one state of those
// of all checks of a service. Both are plain structs that read no clock and do no I/O, so that a simulation can drive them.
// A Checker is the goroutines around them: one for each check, which runs it, and one that counts and hands every change of
// the service's state to its caller. There is one Checker for each service, so a slow check delays no other check and
// nothing else in the daemon.
//
// # The caller's duties
//
//  1. Call Validate on every Probe, and an HTTP's ValidateFiles; Faults tells what is wrong, by the key of the configuration.
//  2. Call New with a validated Config and Run once, on a goroutine of its own.
//  3. Take each Changed that Run emits. While emit blocks, each check ends its run, waits, and nothing else is harmed.
//  4. Cancel the context to stop, and wait for Run to return: by then running commands are killed and reaped, and
//     connections closed.
//  5. Set the process's umask to 022 before the first check. ExaBGP gives its children umask 0137, under which a
//     directory that a check makes cannot be entered; the umask belongs to the whole process, so it is not set here.
//
// Now may be called at any time, from any goroutine. Who wants to know of every run, and not of changes only, says so with
// Watch.
//
// # Several checks
//
// Each check has its own name, intervals, rise and fall. The service is healthy while at least Config.Require checks are,
// and unhealthy while so many are unhealthy that this cannot be reached. Between the two, while checks without a verdict
// could still decide, it stays as it was, which is unknown at first. A check that changes its state without changing the
// service's is logged and is seen in the next Changed.
//
// # Every run
//
// A run passes or fails; what does not come to its end within Check.Timeout, or cannot begin, fails. Runs of one check never
// overlap. Each begins afresh: names are resolved, files of certificates read, connections made and closed again. What hangs
// in a system call that cannot be ended (a dead NFS server) fails a second after its timeout, and each further run fails
// without being begun until it ends. A panic in a library is a failure as well, where it is on our goroutine.
//
// A probe connects from Bind if that is given: the VIP, so that the answer takes the way that a client's takes, or a local
// address that the server's access list knows.
//
// # What a command may rely on
//
// A line is run by "/bin/sh -c", a list of arguments without a shell, with / as its directory and as the user the daemon
// runs as. Its stdin is /dev/null. Its stdout and stderr are read by the daemon, which keeps the last line for the log: a
// check that prints gigabytes is not blocked and costs no memory. It never gets the daemon's own stdin and stdout, which are
// ExaBGP's command channel.
//
// Its environment is the daemon's, without the variables that begin with "exabgp" in any case (ExaBGP 4.2 leaks
// exabgp_cli_pipe, which makes every exabgp command below it speak to the wrong pipe), and with Config.Env added:
// EXAZK_SERVICE, EXAZK_NODE and EXAZK_VIPS come from the daemon that way. EXAZK_CHECK is the check's name, and EXAZK_STATE
// its state before this run: unknown, healthy or unhealthy.
//
// Exit status 0 is a success, everything else a failure: another status, a signal, a run that is not over after
// Check.Timeout, and one that could not be started.
//
// # What is killed
//
// Each run is a session (setsid(2)), and so a process group, of its own. After every run, a successful one too, what is
// left of the group gets SIGKILL: a check cannot leave a background process behind, and so none can pile up. After a
// timeout, and when the context is done, everything else in its session gets SIGKILL as well, because timeout(1) and
// "set -m" move commands to groups of their own. Only a process that made a session for itself (setsid, a daemon's
// double fork) is not found; it keeps running, with its output closed.
//
// The program is reaped only after its group was killed: until then neither its process id nor its group's nor its
// session's can belong to anybody else.
//
// A process in uninterruptible sleep (a dead NFS server), or one that became another user's (sudo), survives our
// SIGKILL. Its run is a failure like any other, a second after the timeout, and until it ends each further run is a
// failure too without a new process being started.
//
// The kernel's parent-death signal (prctl(2), PR_SET_PDEATHSIG) is not used. It is sent when the thread that forked
// ends, which under Go is not when the process ends, and it would reach the program only. So a check outlives a daemon
// that was killed with SIGKILL, until it ends by itself or writes to its broken pipe.
package health
