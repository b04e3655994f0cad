#!/usr/bin/env bash
# Sees to it that a Docker engine answers and has a small image to try things with.
# Uses the engine that is there; starts one only if none is.
set -euo pipefail
# shellcheck source=etc/setup/common.sh
. "$(dirname "$0")/common.sh"
cd "$ROOT"

IMAGE=busybox:latest
LOG=$RUN/dockerd.log

engine() { "$VENV/bin/python" etc/setup/engine.py "$@"; }

# start_engine: with the machine's service manager if that knows Docker, else by ourselves.
start_engine() {
    if [ -d /run/systemd/system ] && systemctl cat docker.service >/dev/null 2>&1; then
        say "starting the Docker engine with systemd"
        if systemctl start docker.service && engine wait 60 1; then
            return
        fi
        die "systemd could not start the Docker engine; to see why: journalctl --unit docker"
    fi
    local options=()
    if ! { mkdir -p /var/lib/docker && [ -w /var/lib/docker ]; } 2>/dev/null; then
        options=(--data-root "$RUN/docker")
    fi
    say "starting a Docker engine (log: $LOG)"
    setsid dockerd "${options[@]}" >"$LOG" 2>&1 </dev/null 9>&- &
    engine wait 60 $!
}

# iptables_legacy: older kernels lack what the newer kind of iptables needs.
iptables_legacy() {
    grep -qiE 'iptables|nf_tables|nftables' "$LOG" 2>/dev/null || return 1
    [ -x /usr/sbin/iptables-legacy ] || return 1
    [ "$(readlink -f /etc/alternatives/iptables)" != "$(readlink -f /usr/sbin/iptables-legacy)" ] || return 1
    say "the engine failed with iptables; choosing iptables-legacy for this machine and trying again"
    update-alternatives --set iptables /usr/sbin/iptables-legacy >/dev/null
    update-alternatives --set ip6tables /usr/sbin/ip6tables-legacy >/dev/null
}

give_up() {
    complain "The Docker engine could not be started. The end of $LOG:"
    tail -n 12 "$LOG" >&2 || true
    if ! grep -q '^cgroup2\? ' /proc/mounts && ! grep -q ' /sys/fs/cgroup' /proc/mounts; then
        complain "No control groups are mounted: mount -t cgroup2 none /sys/fs/cgroup"
    fi
    exit 1
}

need_engine() {
    if [ -n "${DOCKER_HOST:-}" ]; then
        die "No Docker engine answers at DOCKER_HOST=$DOCKER_HOST: $1"
    elif [ "$(id -u)" != 0 ]; then
        complain "You can't reach a Docker engine at /var/run/docker.sock: $1"
        die "Start one, or become a member of its group, or run this as root."
    fi
    lock_setup
    etc/setup/packages.sh "${ENGINE_PACKAGES[@]}"
    if engine state "$IMAGE" >/dev/null || [ $? = 3 ]; then
        return # whoever held the lock, or the package's own service, has started it
    fi
    start_engine || { iptables_legacy && start_engine; } || give_up
    say "the engine is up, and stays up when flynn-host ends"
}

# static_busybox DIRECTORY: prints the path of a busybox that needs nothing else.
static_busybox() {
    local found
    found=$(command -v busybox || true)
    if [ -z "$found" ] || ! ldd "$found" 2>&1 | grep -qE 'not a dynamic|statically linked'; then
        # Unpacked, not installed: that needs no root, and replaces no other busybox.
        (cd "$1" && apt-get download busybox-static && dpkg-deb -x busybox-static_*.deb package) >&2 || return 1
        found=$(find "$1/package" -path '*bin/busybox' -type f)
    fi
    echo "$found"
}

make_image() {
    local work busybox applets applet
    work=$(mktemp -d "$RUN/image.XXXXXX")
    # shellcheck disable=SC2064
    trap "rm -rf '$work'" EXIT
    chmod 755 "$work"
    busybox=$(static_busybox "$work" 2>"$RUN/image.log") || {
        tail -n 5 "$RUN/image.log" >&2
        complain "No image could be made to try things with. Any image that has a shell will do:"
        die "docker pull busybox, or install the Debian package busybox-static, then try again."
    }
    mkdir -p "$work"/root/{bin,dev,etc,home,proc,root,sys,tmp,var}
    chmod 1777 "$work/root/tmp"
    echo 'root:x:0:0:root:/root:/bin/sh' >"$work/root/etc/passwd"
    echo 'root:x:0:' >"$work/root/etc/group"
    cp "$busybox" "$work/root/bin/busybox"
    applets=$("$work/root/bin/busybox" --list)
    for applet in $applets; do # one of them may be busybox itself
        [ -e "$work/root/bin/$applet" ] || ln -s busybox "$work/root/bin/$applet"
    done
    tar -C "$work/root" --owner=0 --group=0 -cf "$work/image.tar" .
    engine import "$IMAGE" "$work/image.tar"
}

need_image() {
    # A default route has 0 for its destination. Without one there is nobody to ask.
    if grep -qE '^\S+\s+00000000\s' /proc/net/route; then
        say "pulling $IMAGE"
        if timeout 20 "$VENV/bin/python" etc/setup/engine.py pull "$IMAGE" >"$RUN/pull.log" 2>&1; then
            return
        fi
    fi
    say "$IMAGE can't be pulled from here; making one of that name from Debian's busybox"
    make_image
}

mkdir -p "$RUN"
answer=0
reason=$(engine state "$IMAGE") || answer=$?
if [ $answer = 0 ]; then
    exit 0
elif [ $answer = 3 ]; then
    need_image
else
    need_engine "$reason"
    engine state "$IMAGE" >/dev/null || need_image
fi
