#!/usr/bin/env bash
# Does random things to sandboxes of the process fake from several goroutines
# and kills their machines and manager at random, for the time given. It needs
# no root and no VM. BANDSOX_CHAOS_SEED repeats a run's choices.
set -euo pipefail
race=-race
if ! command -v gcc >/dev/null; then
	race=
	echo "chaos: no gcc, so without the race detector"
fi
# shellcheck disable=SC2086 # empty means no flag
BANDSOX_CHAOS=$1 go test -v -count=1 -timeout 0 $race -run '^TestChaos$' .
