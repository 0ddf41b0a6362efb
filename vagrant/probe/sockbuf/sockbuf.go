// Package sockbuf gives the programs of the lab sockets that hold what arrives while the machine is too busy to run them:
// some seconds of probes. Without it a lack of processor time looks like packets lost on the way.
package sockbuf

import (
	"syscall"

	"golang.org/x/sys/unix"
)

const size = 4 << 20

// Raise asks for a large receive buffer; beyond net.core.rmem_max that takes root, and without it there is as much as may be.
func Raise(c syscall.Conn) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	raw.Control(func(fd uintptr) {
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size) != nil {
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, size)
		}
	})
}
