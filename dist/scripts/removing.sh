#!/bin/sh
# Before a removal. A running daemon goes on without its file, but ExaBGP could not start it again, and ends over that.
set -e
case "$1" in
remove | 0)
	if grep -qsx exazk /proc/[0-9]*/comm; then
		echo "exazk: it still runs under ExaBGP; take its process out of ExaBGP's configuration and restart ExaBGP, for else ExaBGP ends with it" >&2
	fi
	;;
esac
