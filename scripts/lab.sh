#!/usr/bin/env bash
# Runs a command in the lab: a machine with a /dev/kvm that works, emulated, with
# this repository's build in it. See docs/testing.md; bin/lab -h lists options.
#
#   scripts/lab.sh [options of bin/lab] [COMMAND]
#
# BANDSOX_FIRECRACKER and BANDSOX_JAILER are brought along if they are set.
# BANDSOX_LAB_TESTS lists the packages whose test programs are, in /lab/tests;
# without a COMMAND the tests of internal/vm/firecracker run.
set -euo pipefail
cd "$(dirname "$0")/.."
out=.cache/lab
tests=${BANDSOX_LAB_TESTS:-./internal/vm ./internal/vm/firecracker}
default='cd /lab/tests/internal/vm/firecracker && ./firecracker.test -test.v'

build() { # no cgo: nothing is linked that the machine could lack
	CGO_ENABLED=0 go "$1" -buildvcs=false -trimpath "${@:2}"
}
rm -rf "$out"
for dir in cmd/bandsox-agent internal/vm/vmtest/tool; do
	build build -ldflags '-s -w' -o "$out/programs/" "./$dir"
done
for dir in $tests; do
	dir=${dir#./}
	mkdir -p "$out/tests/$dir"
	build test -c -o "$out/tests/$dir/" "./$dir"
	[ ! -d "$dir/testdata" ] || cp -a "$dir/testdata" "$out/tests/$dir/"
done
add=(-add bin/bandsox=bin/bandsox -add "programs=$out/programs" -add "tests=$out/tests")
for tool in firecracker jailer; do
	var=BANDSOX_${tool^^}
	[ -z "${!var:-}" ] || add+=(-add "bin/$tool=${!var}" -env "$var=/lab/bin/$tool")
done
[ "$#" -gt 0 ] || set -- "$default"
exec bin/lab "${add[@]}" "$@"
