#!/bin/sh
# Fetches the npm packages that package-lock.json names, unless they are here.
# Several may ask at once.
set -e
cd "$(dirname "$0")"
exec 9>.lock
flock 9
[ node_modules/.package-lock.json -nt package-lock.json ] ||
	npm ci --silent --no-audit --no-fund
