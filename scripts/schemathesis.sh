#!/usr/bin/env bash
# Tries a running server against its own OpenAPI document with schemathesis,
# which is installed beside nothing else the first time:
#   scripts/schemathesis.sh http://127.0.0.1:8000 [options of schemathesis run]
# BANDSOX_IMAGE is the image that sandboxes are made from, BANDSOX_KEEP the id
# of a running sandbox that is to outlive this; see schemathesis/hooks.py.
#
# Exits with 77 and the reason where it can't be had, as automake's tests do.
set -euo pipefail
version=4.32.5
here=$(cd "$(dirname "$0")" && pwd)/schemathesis
venv=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/bandsox/schemathesis-$version

skip() {
	echo "schemathesis: skipped: $*" >&2
	exit 77
}

install() { # into a directory of its own that takes its name when it is whole
	command -v python3 >/dev/null || skip "no python3"
	mkdir -p "$(dirname "$venv")"
	log=$(mktemp)
	trap 'rm -rf "$log" "$venv.$$"' EXIT
	python3 -m venv "$venv.$$" >"$log" 2>&1 || skip "no python3-venv: $(tail -1 "$log")"
	"$venv.$$/bin/python" -m pip install -q --disable-pip-version-check "schemathesis==$version" >"$log" 2>&1 ||
		skip "PyPI did not give it: $(grep -v '^$' "$log" | tail -1)"
	mv -T "$venv.$$" "$venv" 2>/dev/null || [ -x "$venv/bin/python" ] # another was quicker
	trap - EXIT
	rm -rf "$log" "$venv.$$"
}
[ -x "$venv/bin/python" ] || install

url=${1:?the address of a server}
shift
export SCHEMATHESIS_HOOKS=hooks PYTHONPATH=$here PYTHONDONTWRITEBYTECODE=1
# Not by its own script, whose first line has the directory's first name.
exec "$venv/bin/python" -m schemathesis.cli --config-file "$here/schemathesis.toml" run "$url/openapi.json" --no-color "$@"
