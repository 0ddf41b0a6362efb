#!/bin/sh
# Builds what is handed out: .deb, .rpm and tarball for amd64 and arm64, and SHA256SUMS. Two runs on one commit give the same
# files to the bit, wherever and whenever they run, with the same Go. Usage: dist/build.sh [DIRECTORY] (default bin/dist).
# Without git, VERSION and SOURCE_DATE_EPOCH (seconds) must be given. MAINTAINER is who the packages name.
set -eu
umask 022
export LC_ALL=C TZ=UTC
unset GOOS GOARCH GOAMD64 GOARM64

root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
out=${1:-bin/dist}
VERSION=${VERSION:-$(dist/version.sh)}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
DATE=$(date --date="@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
MAINTAINER=${MAINTAINER:-The ExaZK authors <exazk@example.org>}
export VERSION SOURCE_DATE_EPOCH MAINTAINER
export GOFLAGS="-trimpath -buildvcs=false" CGO_ENABLED=0

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
go build -C dist/tools -o "$work/tools/" github.com/goreleaser/nfpm/v2/cmd/nfpm github.com/cpuguy83/go-md2man/v2

# What every form has: manuals, completions, licences, documentation.
common=$work/common
mkdir -p "$common/man"
for page in dist/man/*.md; do
	name=$(basename "$page" .md)
	sed -e "s/@VERSION@/$VERSION/" -e "s/@DATE@/${DATE%T*}/" "$page" | "$work/tools/go-md2man" >"$common/man/$name"
done
cp -R dist/completion README.md LICENSE docs "$common/"
rm -rf "$common/docs/failover/failed"
# The licences of all that is linked into the program, Go's own library first, ask to go with it.
{
	printf 'The program contains the Go library and these modules, with their licences.\n\nGo\n\n'
	cat "$(go env GOROOT)/LICENSE" 2>/dev/null || cat /usr/share/doc/golang-*/copyright
	for arch in amd64 arm64; do
		GOARCH=$arch go list -deps -f '{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}} {{.Dir}}{{end}}{{end}}' .
	done | sort -u | while read -r module version dir; do
		printf '\n%s\n%s %s\n\n' "$(printf '%072d' 0 | tr 0 -)" "$module" "$version"
		find "$dir" -maxdepth 1 -type f -name 'LICENSE*' -o -name 'COPYING*' | sort >"$work/licences"
		[ -s "$work/licences" ] || { echo "dist/build.sh: $module has no licence; remedy: see how it names it" >&2; exit 1; }
		xargs cat <"$work/licences"
	done
} >"$common/THIRD-PARTY"

# The packages' tree. What lies in /usr/local in the sources, for those who install by hand, lies in /usr there.
tree=$work/package
doc=$tree/root/usr/share/doc/exazk
mkdir -p "$doc/examples" "$tree/root/usr/bin" "$tree/root/usr/share/bash-completion/completions" "$tree/root/usr/share/exazk" \
	"$tree/root/usr/share/fish/vendor_completions.d" "$tree/root/usr/lib/systemd/system"
for page in "$common"/man/*; do
	install -D -m 644 "$page" "$tree/root/usr/share/man/man${page##*.}/${page##*/}"
done
gzip -9n "$tree"/root/usr/share/man/man*/*
cp -R "$common/completion" dist/scripts "$tree/"
cp dist/completion/exazk.bash "$tree/root/usr/share/bash-completion/completions/exazk"
cp dist/completion/exazk.fish "$tree/root/usr/share/fish/vendor_completions.d/exazk.fish"
cp -R README.md docs "$doc/"
rm -rf "$doc/docs/failover/failed"
cp -R configs/. "$doc/examples/"
sed -i -e 's,](\.\./configs/\(prometheus\|grafana\),](/usr/share/exazk/\1,g' -e 's,](\.\./configs/,](../examples/,g' "$doc"/docs/*.md
mv "$doc/examples/exabgp.service.d" "$tree/root/usr/lib/systemd/system/"
for dir in prometheus grafana; do # for other programs to read in place
	[ ! -d "$doc/examples/$dir" ] || mv "$doc/examples/$dir" "$tree/root/usr/share/exazk/"
done
rmdir "$tree/root/usr/share/exazk" 2>/dev/null || true
find "$doc/examples" "$tree/root/usr/lib" -type f -exec sed -i -e 's,/usr/local/bin/exazk\>,/usr/bin/exazk,g' \
	-e 's,/etc/systemd/system/exabgp.service.d/,/usr/lib/systemd/system/exabgp.service.d/,g' {} +
{
	printf 'ExaZK\n\n'
	cat LICENSE
	printf '\n'
	cat "$common/THIRD-PARTY"
} >"$doc/copyright"
mkdir -p "$tree/debian/usr/share/lintian/overrides" "$tree/debian/usr/share/doc/exazk"
cp dist/lintian-overrides "$tree/debian/usr/share/lintian/overrides/exazk"
printf 'exazk (%s) unstable; urgency=medium\n\n  * This version; what changed is in its history.\n\n -- %s  %s\n' \
	"$VERSION" "$MAINTAINER" "$(date --date="$DATE" -R)" | gzip -9n >"$tree/debian/usr/share/doc/exazk/changelog.gz"

mkdir -p "$out"
out=$(cd "$out" && pwd)
rm -f "$out"/exazk[-_]* "$out/SHA256SUMS"
for arch in amd64 arm64; do
	GOARCH=$arch go build -ldflags "-s -w -X main.version=$VERSION" -o "$tree/root/usr/bin/exazk" .
	# Whatever modes and times a checkout gave to the sources.
	chmod -R u=rwX,go=rX "$tree"
	find "$tree" -exec touch --no-dereference --date="$DATE" {} +
	for format in deb rpm; do
		(cd "$tree" && ARCH=$arch "$work/tools/nfpm" package --config "$root/dist/nfpm.yaml" --packager $format --target "$out/" >"$work/log") || { cat "$work/log" >&2; exit 1; }
	done

	name=exazk-$VERSION-linux-$arch
	mkdir "$work/$name"
	cp -R "$common/." configs "$tree/root/usr/bin/exazk" "$work/$name/"
	chmod -R u=rwX,go=rX "$work/$name"
	tar --create --directory "$work" --format=gnu --sort=name --mtime="$DATE" --owner=0 --group=0 --numeric-owner "$name" | gzip -9n >"$out/$name.tar.gz"
done
cd "$out"
sha256sum exazk[-_]* >SHA256SUMS
cat SHA256SUMS
