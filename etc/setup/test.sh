#!/usr/bin/env bash
# Sets up what the tests need, then runs the linters and all tests.
#
# usage: test.sh setup|lint|unit|all
set -euo pipefail
# shellcheck source=etc/setup/common.sh
. "$(dirname "$0")/common.sh"
cd "$ROOT"

packages=(python=python3 shellcheck=shellcheck)
if [ "${1:-}" = all ]; then
    packages+=("${ENGINE_PACKAGES[@]}" curl=curl etcd=etcd-server etcdctl=etcd-client)
    packages+=(docker-registry=docker-registry /usr/share/doc/busybox-static=busybox-static)
elif find_python >/dev/null; then
    packages=() # the linters and the unit tests do without the rest
fi
etc/setup/packages.sh --no-services "${packages[@]}"
etc/setup/venv.sh test

# pytest comes last, so that its summary is the last thing to be read.
case ${1:-} in
setup) ;;
lint) exec etc/setup/lint.sh ;;
unit) exec "$VENV/bin/python" -m pytest tests/unit ;;
all)
    etc/setup/lint.sh
    # The unit tests share nothing, so each core may have some of them.
    say "pytest: unit tests"
    failed=
    "$VENV/bin/python" -m pytest tests/unit --numprocesses=auto || failed=1
    say "pytest: the other tests"
    "$VENV/bin/python" -m pytest --ignore=tests/unit || failed=1
    [ -z "$failed" ] || die "Tests failed, see above."
    ;;
*) die "usage: test.sh setup|lint|unit|all" ;;
esac
