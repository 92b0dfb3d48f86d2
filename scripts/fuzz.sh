#!/usr/bin/env bash
# Runs every fuzz target for the time given. A crasher is written by go test
# under the package's testdata/fuzz, from where every later test run replays it.
set -euo pipefail
time=${1:-10s}
grep -rnoE --include='*_test.go' '^func (Fuzz[A-Za-z0-9_]+)' . | sed -E 's/^(.*)\/[^/]*:[0-9]+:func /\1 /' | sort |
	while read -r dir target; do
		echo "$dir $target"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 1x "$dir" </dev/null
	done
