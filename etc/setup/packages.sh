#!/usr/bin/env bash
# Installs Debian packages for the programs that are missing.
#
# usage: packages.sh [--no-services] PROGRAM=PACKAGE...
#
# PROGRAM is a command, or "python" for a Python that can make virtual environments.
# With --no-services none of the packages starts a service of its own.
set -euo pipefail
# shellcheck source=etc/setup/common.sh
. "$(dirname "$0")/common.sh"

services=yes
if [ "${1:-}" = --no-services ]; then
    services=no
    shift
fi

missing=()
for pair in "$@"; do
    program=${pair%%=*}
    if [ "$program" = python ]; then
        find_python >/dev/null || missing+=(python3 python3-venv)
    elif [[ $program == /* ]]; then
        [ -e "$program" ] || missing+=("${pair#*=}")
    else
        have "$program" || missing+=("${pair#*=}")
    fi
done
[ ${#missing[@]} -gt 0 ] || exit 0

if ! have apt-get; then
    complain "These are needed, under the names they have on Debian: ${missing[*]}"
    complain "This is not a Debian machine: please install them, then try again."
    exit 1
fi
if [ "$(id -u)" != 0 ]; then
    complain "These Debian packages are needed: ${missing[*]}"
    complain "Install them as root: apt-get install --no-install-recommends ${missing[*]}"
    exit 1
fi

say "installing Debian packages: ${missing[*]}"
mkdir -p "$RUN"
log=$RUN/apt.log
export DEBIAN_FRONTEND=noninteractive
options=(-o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)

policy=/usr/sbin/policy-rc.d
if [ $services = no ] && [ ! -e $policy ]; then
    trap 'rm -f $policy' EXIT
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod +x $policy
fi

# Fetching the lists may fail in part (a source that is down) and still be enough.
apt-get "${options[@]}" update >"$log" 2>&1 9>&- || complain "apt-get update had errors; going on (see $log)"
if ! apt-get "${options[@]}" install -y --no-install-recommends "${missing[@]}" >>"$log" 2>&1 </dev/null 9>&-; then
    tail -n 15 "$log" >&2
    die "The packages could not be installed; all of the output is in $log"
fi
