#!/usr/bin/env bash
# Runs a command, and says how long it took in the form of bin/try's own lines:
# phase.sh NAME WHAT COMMAND...
set -euo pipefail
name=$1 what=$2
shift 2
start=${EPOCHREALTIME/[.,]/} # in microseconds
"$@"
took=$((${EPOCHREALTIME/[.,]/} - start))
printf '%-10s %3d.%02ds  %s\n' "$name" $((took / 1000000)) $((took / 10000 % 100)) "$what"
