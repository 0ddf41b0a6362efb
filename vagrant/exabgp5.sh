#!/bin/sh
# Unpacks ExaBGP 5 from Debian sid into a directory of its own, without installing it: the tests and the lab run it beside
# the ExaBGP of the system. Usage: exabgp5.sh [DIRECTORY], by default /opt/exazk-lab/exabgp5; DIRECTORY/exabgp is then the
# program, run by /usr/bin/python3. Nothing is done where it is there already. No root is needed where DIRECTORY can be made.
set -eu

directory=${1:-/opt/exazk-lab/exabgp5}
if [ -x "$directory/exabgp" ] && "$directory/exabgp" version >/dev/null 2>&1; then
	exit 0
fi
for program in apt-get dpkg-deb /usr/bin/python3; do
	command -v "$program" >/dev/null || {
		echo "$0: $program is missing: this needs a Debian with python3" >&2
		exit 1
	}
done
if [ -d "$directory" ] && [ ! -x "$directory/exabgp" ] && [ -n "$(ls -A "$directory")" ]; then
	echo "$0: $directory holds something else: name another directory" >&2
	exit 1
fi
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -r "$keyring" ] || {
	echo "$0: $keyring is missing: install debian-archive-keyring" >&2
	exit 1
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
mkdir -p "$work/lists/partial" "$work/archives/partial" "$work/root"
echo "deb [signed-by=$keyring] ${DEBIAN_MIRROR:-http://deb.debian.org/debian} sid main" >"$work/sources.list"

# An apt of its own: the lists and the sources of the system stay as they are.
apt() {
	apt-get --quiet=2 -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=/dev/null \
		-o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null \
		-o Dir::State::Lists="$work/lists" -o Dir::Cache="$work" -o Dir::Cache::Archives="$work/archives" \
		-o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false \
		-o APT::Sandbox::User=root "$@"
}
if ! { apt update && (cd "$work" && apt download python3-exabgp/sid); }; then
	echo "$0: python3-exabgp of Debian sid can not be fetched; DEBIAN_MIRROR=URL names another mirror" >&2
	exit 1
fi
for package in "$work"/python3-exabgp_*.deb; do
	version=$(dpkg-deb --field "$package" Version)
	case $version in
	5.*) ;;
	*)
		echo "$0: Debian sid has ExaBGP $version, not 5: fetch python3-exabgp 5 from elsewhere" >&2
		exit 1
		;;
	esac
	dpkg-deb --extract "$package" "$work/root"
done

cat >"$work/root/exabgp" <<'EOF'
#!/bin/sh
# ExaBGP from this directory, whatever version the system has.
here=$(dirname "$(readlink -f "$0")")
PYTHONPATH=$here/usr/lib/python3/dist-packages exec /usr/bin/python3 -m exabgp "$@"
EOF
chmod 755 "$work/root" "$work/root/exabgp"
"$work/root/exabgp" version >/dev/null || {
	echo "$0: ExaBGP $version does not run with $(/usr/bin/python3 --version)" >&2
	exit 1
}
mkdir -p "$(dirname "$directory")"
rm -rf "$directory"
cp -R "$work/root" "$directory"
echo "ExaBGP $version is $directory/exabgp" >&2
