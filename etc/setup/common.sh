# shellcheck shell=bash disable=SC2034
# What the set-up scripts share. Sourced, never run.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
VENV=$ROOT/.venv
RUN=$ROOT/.run
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

say() { printf '==> %s\n' "$*"; }
complain() { printf '%s\n' "$*" >&2; }
die() {
    complain "$@"
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# python_ok PYTHON: whether it is new enough and can make virtual environments.
python_ok() {
    have "$1" && "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

# find_python: prints a usable Python.
find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 /usr/bin/python3 python3.14 python3.13 python3.12 python3.11}; do
        if python_ok "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

# Two set-ups of one checkout at the same time wait for each other.
lock_setup() {
    mkdir -p "$RUN"
    if have flock; then
        exec 9>"$RUN/setup.lock"
        flock -n 9 || {
            say "waiting for another set-up of this checkout"
            flock 9
        }
    fi
}

# What a Docker engine of our own needs.
ENGINE_PACKAGES=(dockerd=docker.io iptables=iptables ip=iproute2 /etc/ssl/certs/ca-certificates.crt=ca-certificates)
if grep -qs Y /sys/module/apparmor/parameters/enabled; then
    ENGINE_PACKAGES+=(apparmor_parser=apparmor)
fi
