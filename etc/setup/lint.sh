#!/usr/bin/env bash
# Every check that reads the code without running it. Needs the environment of venv.sh test.
set -euo pipefail
# shellcheck source=etc/setup/common.sh
. "$(dirname "$0")/common.sh"
cd "$ROOT"
export PATH="$VENV/bin:$PATH"

failed=()

# check NAME COMMAND...: goes on after a failure, so that one run shows all there is to mend.
check() {
    local name=$1
    shift
    say "$name"
    "$@" || failed+=("$name")
}

# fragments: whether those there are can be put together.
fragments() {
    local draft
    draft=$(towncrier build --draft --version check 2>&1) || {
        complain "$draft"
        return 1
    }
}

check "ruff check" ruff check .
check "ruff format" ruff format --check .
check mypy mypy
check lint-imports lint-imports --no-logo --config setup.cfg
check "changelog fragments" fragments
if git rev-parse --verify --quiet origin/main >/dev/null 2>&1; then
    check "towncrier check" towncrier check --compare-with origin/main
fi
if have shellcheck; then
    check shellcheck shellcheck --external-sources etc/setup/*.sh .ci/run
fi

[ ${#failed[@]} = 0 ] || die "These checks failed: ${failed[*]}"
