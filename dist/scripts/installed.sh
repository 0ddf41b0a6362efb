#!/bin/sh
# After an installation or an upgrade. Nothing is started or stopped: the routes of a running exazk stay as they are, and when
# to switch over is for the operator to say.
set -e

# dpkg says "configure" and the version before; rpm says how many there are now.
case "$1:$2" in
configure:*) upgrade=$2 ;;
2:*) upgrade=yes ;;
*) upgrade= ;;
esac

# The drop-in counts from the next stop of ExaBGP on.
if [ -d /run/systemd/system ]; then
	systemctl --system daemon-reload >/dev/null || true
fi
if [ -n "$upgrade" ] && grep -qsx exazk /proc/[0-9]*/comm; then
	echo "exazk: the running daemon is still that of the version before; \"exazk restart\" switches over, and its routes stay" >&2
fi
for file in /usr/local/bin/exazk /etc/systemd/system/exabgp.service.d/exazk.conf; do
	if [ -e "$file" ]; then
		echo "exazk: $file comes before what this package has; remove it once ExaBGP's configuration names /usr/bin/exazk" >&2
	fi
done
