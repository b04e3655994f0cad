#!/usr/bin/env bash
# Sets up what is missing and runs flynn-host in the foreground as a cluster of one host.
set -euo pipefail
# shellcheck source=etc/setup/common.sh
. "$(dirname "$0")/common.sh"
cd "$ROOT"

packages=(python=python3 curl=curl)
# Where there isn't even a socket, no engine will answer: install all at once.
if [ -z "${DOCKER_HOST:-}" ] && [ ! -S /var/run/docker.sock ] && [ "$(id -u)" = 0 ]; then
    packages+=("${ENGINE_PACKAGES[@]}")
fi
etc/setup/packages.sh "${packages[@]}"
etc/setup/venv.sh run
etc/setup/engine.sh
exec "$VENV/bin/python" etc/setup/serve.py
