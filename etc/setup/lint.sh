#!/usr/bin/env bash
# Every check that reads the code without running it. Needs the environment of venv.sh test.
set -euo pipefail
# shellcheck source=etc/setup/common.sh
. "$(dirname "$0")/common.sh"
cd "$ROOT"
export PATH="$VENV/bin:$PATH"

say "ruff check"
ruff check .
say "ruff format --check"
ruff format --check .
say "mypy"
mypy
say "lint-imports"
lint-imports --no-logo --config setup.cfg
say "towncrier"
towncrier build --draft --version check >/dev/null
if git rev-parse --verify --quiet origin/main >/dev/null 2>&1; then
    towncrier check --compare-with origin/main
fi
if have shellcheck; then
    say "shellcheck"
    shellcheck --external-sources etc/setup/*.sh .ci/run
fi
