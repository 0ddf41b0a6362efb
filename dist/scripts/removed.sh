#!/bin/sh
# After a removal: systemd forgets the drop-in, so that the next stop of ExaBGP does not look for a program that is gone.
set -e
if [ -d /run/systemd/system ]; then
	systemctl --system daemon-reload >/dev/null || true
fi
