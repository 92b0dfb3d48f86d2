#!/usr/bin/env bash
# Runs go test on the packages given, with the race detector where a C compiler
# is there (it needs cgo), and closes with what was skipped and why.
set -euo pipefail
race=-race
if ! command -v gcc >/dev/null; then
	race=
	echo "test: no gcc, so without the race detector"
fi
# What a killed run leaves goes at the end, too. An ordinary user may look in,
# as into /tmp: a test is one. The name is short, as a socket's path has to be.
TMPDIR=$(mktemp -d "${TMPDIR:-/tmp}/bsx-XXXXXX")
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
chmod 755 "$TMPDIR"
# The longest first, or one of them runs alone at the end.
long=(./cmd/bandsox . ./internal/server ./internal/kernel)
[ "$*" = ./... ] || long=()
# shellcheck disable=SC2086 # empty means no flag
go test -json -count=1 -timeout 14m $race "${long[@]}" "$@" | go run ./internal/testsum
