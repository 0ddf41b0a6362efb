#!/bin/sh
# Installs the Debian 12 packages that the lab needs, or with "test" those that the tests need as well. Nothing that is
# installed is started. Usage, as root: install.sh lab|test
set -eu

packages="exabgp bird2 zookeeper libslf4j-java default-jre-headless iproute2 util-linux hostname procps curl"
case "${1:-}" in
lab) ;;
# gcc is for the race detector, the message bus for checks of systemd units, FRR and GoBGP for what routers make of a route,
# Prometheus for alert rules and dashboard. Chromium, with a font, looks at the page. The last line is for what "make dist" builds:
# a machine with systemd in a container runs it, and what is for arm64 is emulated.
test) packages="$packages python3-kazoo vagrant iputils-ping gcc libc6-dev dbus-daemon frr gobgpd prometheus chromium fonts-dejavu-core
	lintian rpm man-db mandoc systemd systemd-container qemu-user-static bash-completion zsh fish" ;;
*)
	echo "usage: $0 lab|test" >&2
	exit 2
	;;
esac

missing=
for package in $packages; do
	status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null) || status=none
	[ "$status" = installed ] || missing="$missing $package"
done

# ExaBGP 5 stands beside the packages. Without it, the tests that need it are skipped and say so.
exabgp5() {
	[ "$1" = test ] || return 0
	"$(dirname "$0")/exabgp5.sh" || echo "$0: warning: no ExaBGP 5; tests with it will be skipped" >&2
}

if [ -z "$missing" ]; then
	exabgp5 "$1"
	exit 0
fi

if [ "$(id -u)" -ne 0 ]; then
	echo "$0: root is needed to install:$missing" >&2
	exit 1
fi
echo "installing:$missing" >&2
export DEBIAN_FRONTEND=noninteractive

# The packages' daemons must not start: they would speak BGP and serve ZooKeeper on this very machine. Exit status 101 of
# this file is how a machine says so (invoke-rc.d(8)). One that is there already is somebody else's, and stays.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	trap 'rm -f "$policy"' EXIT
	trap 'exit 1' HUP INT TERM
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
fi

# A machine without package lists, or with old ones that name files no longer there, needs new ones first. Else it does not.
# shellcheck disable=SC2086 # a list of words
if ! apt-get install --yes --quiet --no-install-recommends $missing; then
	apt-get update --quiet
	apt-get install --yes --quiet --no-install-recommends $missing
fi

# What was installed now must not start at the next boot either.
if command -v systemctl >/dev/null; then
	for package in $missing; do
		case $package in
		exabgp | bird2 | frr | gobgpd | prometheus) systemctl disable --quiet "${package%2}.service" 2>/dev/null || true ;;
		esac
	done
fi

exabgp5 "$1"
