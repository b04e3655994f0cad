#!/usr/bin/env bash
# Runs an etcd of one member in the foreground, on loopback, for clusters to be tried out with.
set -euo pipefail
# shellcheck source=etc/setup/common.sh
. "$(dirname "$0")/common.sh"
cd "$ROOT"

etc/setup/packages.sh --no-services etcd=etcd-server
mkdir -p "$RUN"
client=http://127.0.0.1:2379 peer=http://127.0.0.1:2380
say "etcd runs at $client, and keeps its data in $RUN/etcd; Ctrl-C ends it"
exec etcd --name=only --data-dir="$RUN/etcd" \
    --listen-client-urls=$client --advertise-client-urls=$client \
    --listen-peer-urls=$peer --initial-advertise-peer-urls=$peer --initial-cluster=only=$peer \
    --experimental-watch-progress-notify-interval=5s --logger=zap --log-level=warn
