#!/usr/bin/env bash
# Resolves the dependencies of setup.cfg anew and writes down what came out:
# requirements-test.txt for development and requirements.txt, a part of it, to run.
set -euo pipefail
# shellcheck source=etc/setup/common.sh
. "$(dirname "$0")/common.sh"
cd "$ROOT"

python=$(find_python) || die "Python 3.11 or newer with its venv module is needed."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# resolve NAME PIP-ARGUMENT...: installs into a clean environment, prints what is in it.
resolve() {
    local name=$1
    shift
    "$python" -m venv "$work/$name" >&2
    "$work/$name/bin/pip" --disable-pip-version-check install --upgrade "setuptools" "$@" >&2
    echo "# Made by \"make lock\" from setup.cfg; do not edit."
    "$work/$name/bin/pip" --disable-pip-version-check freeze --all --exclude flynn-host --exclude pip
}

# From a copy, so that building leaves nothing in the checkout.
mkdir "$work/source"
cp -r setup.py setup.cfg pyproject.toml MANIFEST.in README.md LICENSE flynnhost twisted "$work/source"
resolve test "$work/source[dev]" >"$work/requirements-test.txt"
resolve run --constraint "$work/requirements-test.txt" "$work/source" >"$work/requirements.txt"
cp "$work/requirements-test.txt" "$work/requirements.txt" .
say "wrote requirements-test.txt and requirements.txt"
