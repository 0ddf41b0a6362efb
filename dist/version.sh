#!/bin/sh
# Prints the version of this commit as dpkg and rpm both take it, and order it: 1.2 of the tag v1.2, 1.2~rc1 of v1.2-rc1, which
# comes before it, and 1.2+git3.0123456789 three commits after; without a tag 0~git, the time of the commit, and the commit, which
# comes before all of these. "+dirty" where files were changed since.
set -eu
cd "$(dirname "$0")/.."
commit=$(git rev-parse HEAD | cut -c1-10) # a fixed length: git's own depends on what else the clone holds
if described=$(git describe --tags --long --match 'v[0-9]*' 2>/dev/null); then
	tag=${described%-*-*}
	ahead=${described#"$tag"-}
	version=$(echo "${tag#v}" | sed -e 's/-/~/' -e 's/-/./g')
	[ "${ahead%-*}" = 0 ] || version=$version+git${ahead%-*}.$commit
else
	version=0~git$(TZ=UTC git log -1 --date=format-local:%Y%m%d.%H%M%S --format=%cd).$commit
fi
case $(git describe --always --dirty --exclude '*') in
*-dirty) version=$version+dirty ;;
esac
echo "$version"
