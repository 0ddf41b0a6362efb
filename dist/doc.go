// Package dist has the tests of what "make dist" builds: that two builds are the same, that the packages hold what they should, and
// that an installed one works, in a root of its own and on the hosts of a lab.
//
// What is built from: build.sh is the whole of it, version.sh the version, nfpm.yaml the packages, scripts what they run; man has
// the manual pages, in the Markdown that go-md2man reads, and completion the scripts of the shells.
package dist
