#!/usr/bin/env bash
# Installs the host packages that are missing: `setup.sh try` what BandSox runs
# on, `setup.sh test` also what its tests compare with. Silent and quick when
# all is there; safe to run again.
#
# Only root on a machine with apt installs. Others are told what to type; `try`
# then fails, and `test` goes on: tests skip what isn't there and say so.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

# command:package, so that a tool that came from elsewhere counts too.
run=(qemu-system-x86_64:qemu-system-x86 mke2fs:e2fsprogs mmdebstrap:mmdebstrap)
peers=(gcc:gcc gcc:libc6-dev git:git skopeo:skopeo umoci:umoci dockerd:docker.io busybox:busybox-static xz:xz-utils bzip2:bzip2 newuidmap:uidmap cpio:cpio chromium:chromium)
want=("${run[@]}")
case ${1:-try} in
try) ;;
test) want+=("${peers[@]}") ;;
*) echo "usage: $0 try|test" >&2; exit 2 ;;
esac

missing() { # the packages whose command isn't there
	local w
	for w in "$@"; do
		command -v "${w%%:*}" >/dev/null || echo "${w##*:}"
	done
	# Go fetches modules, and BandSox images, over TLS.
	[ -n "${SSL_CERT_FILE:-}${SSL_CERT_DIR:-}" ] || [ -e /etc/ssl/certs/ca-certificates.crt ] ||
		[ -e /etc/pki/tls/certs/ca-bundle.crt ] || [ -e /etc/ssl/cert.pem ] || echo ca-certificates
}

packages=$(missing "${want[@]}" | xargs)
[ -n "$packages" ] || exit 0

install="apt-get install --no-install-recommends $packages"
if ! command -v apt-get >/dev/null; then
	echo "setup: missing: $packages (Debian's names); install them with this system's package manager" >&2
elif [ "$(id -u)" != 0 ]; then
	echo "setup: missing: $packages; to install them type: sudo $install" >&2
else
	echo "setup: installing $packages"
	export DEBIAN_FRONTEND=noninteractive
	# Packages start no services here: BandSox needs none, and a test machine's
	# dockerd is the tests' own.
	policy=
	if [ ! -e /usr/sbin/policy-rc.d ]; then
		policy=/usr/sbin/policy-rc.d
		trap 'rm -f "$policy"' EXIT
		printf '#!/bin/sh\nexit 101\n' >"$policy"
		chmod +x "$policy"
	fi
	log=$(mktemp)
	# shellcheck disable=SC2086 # a list of words
	if { apt-get -q update && apt-get -q -y --no-install-recommends install $packages; } >"$log" 2>&1; then
		rm -f "$log"
		exit 0
	fi
	tail -20 "$log" >&2
	echo "setup: apt-get failed; its output is in $log" >&2
fi
[ "${1:-try}" = test ] || [ -z "$(missing "${run[@]}")" ] || exit 1
