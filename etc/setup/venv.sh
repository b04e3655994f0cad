#!/usr/bin/env bash
# Makes the virtual environment .venv, or brings it up to date.
#
# usage: venv.sh run|test
set -euo pipefail
# shellcheck source=etc/setup/common.sh
. "$(dirname "$0")/common.sh"
cd "$ROOT"

case ${1:-} in
run) lock=requirements.txt ;;
test) lock=requirements-test.txt ;;
*) die "usage: venv.sh run|test" ;;
esac

# fingerprint: prints all that decides what is installed, and where.
fingerprint() {
    echo "$ROOT with $(readlink -f "$VENV/bin/python")"
    cat "$lock" setup.cfg setup.py pyproject.toml
}
stamp=$VENV/.installed-$1
if [ -x "$VENV/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$(fingerprint)" ]; then
    exit 0
fi

lock_setup
if ! "$VENV/bin/python" -c 'import pip' 2>/dev/null || ! [ "$(cat "$VENV/.place" 2>/dev/null)" = "$VENV" ]; then
    python=$(find_python) || die "Python 3.11 or newer with its venv module is needed."
    say "making the virtual environment .venv with $("$python" --version)"
    rm -rf "$VENV"
    "$python" -m venv "$VENV"
    echo "$VENV" >"$VENV/.place"
fi
say "installing $lock into .venv"
pip=("$VENV/bin/python" -m pip --disable-pip-version-check)
log=$RUN/pip.log
if ! {
    "${pip[@]}" install -r "$lock" &&
        "${pip[@]}" install --no-deps --no-build-isolation --editable .
} >"$log" 2>&1 </dev/null; then
    tail -n 15 "$log" >&2
    die "$lock could not be installed; all of the output is in $log"
fi
fingerprint >"$stamp"
