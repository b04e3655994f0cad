"""Runs flynn-host in the foreground, and says what to try once it is ready: a cluster of one host, or
one of several hosts that try a cluster out on this machine.

Takes its settings from the environment: LISTEN, HOST_ID, EXTERNAL, STATE_DIR, ETCD for a host of a
cluster, N for one of those on this machine, and ARGS for any further options. Ends with 0 when it was
asked to end, as by Ctrl-C, else with flynn-host's status.
"""

from __future__ import annotations

import ctypes
import json
import os
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DEFAULT_LISTEN = "tcp:1113:interface=127.0.0.1"
DEFAULT_ETCD = "http://127.0.0.1:2379"
PATIENCE = 30

NEXT = """
flynn-host is ready: host {host} at {url}, its state is in {state_dir}

Run a job (once: the same ID with the same content is the same job):
  curl -sS -H 'Content-Type: application/json' {url}/cluster/jobs -d '{body}'
See what it prints, and how it is:
  curl -sS {url}/host/jobs/{job}/log
  curl -sS {url}/host/jobs/{job}
Watch what happens to all jobs of this host:
  curl -sSN -H 'Accept: text/event-stream' '{url}/host/jobs?snapshot=true'
Stop the job:
  curl -sS -X DELETE {url}/host/jobs/{job}

The same at a terminal:
  .venv/bin/flynn-host -H {url} run busybox:latest echo hello
  .venv/bin/flynn-host -H {url} ps --all

Ctrl-C ends flynn-host. The jobs go on.
"""


def has_default_route() -> bool:
    """Whether this machine has a way out, and so an address that others can know it by."""
    rows = Path("/proc/net/route").read_text(encoding="ascii").splitlines()[1:]
    return any(row.split()[1] == "00000000" for row in rows)


def state_directory(environment: Mapping[str, str]) -> str:
    """Where the host keeps what it must not forget."""
    default = "/var/lib/flynn-host" if os.geteuid() == 0 else str(ROOT / ".run" / "state")
    return environment.get("STATE_DIR") or default


def numbered(environment: Mapping[str, str]) -> dict[str, str]:
    """The settings of one of several hosts on this machine, each of which has a loopback address of its own.

    :param environment: where ``N`` is the host's number from 1 to 254, if it is one of these.
    :raises SystemExit: when it can't be one.
    """
    number = environment.get("N", "")
    if not number:
        return dict(environment)
    if not number.isascii() or not number.isdecimal() or not 1 <= int(number) <= 254:
        raise SystemExit(f"N must be a number from 1 to 254, not {number!r}")
    address = f"127.0.0.{number}"
    base = Path(state_directory(environment))
    return {
        "ETCD": DEFAULT_ETCD,
        "HOST_ID": f"h{number}",
        "LISTEN": f"tcp:1113:interface={address}",
        "EXTERNAL": address,
        "BIND": address,
        **{name: value for name, value in environment.items() if value},
        "STATE_DIR": str(base.with_name(f"{base.name}-{number}")),
    }


def command(environment: Mapping[str, str]) -> list[str]:
    """What is run.

    :param environment: the variables that have the settings.
    """
    line = [str(Path(sys.executable).with_name("twistd")), "--nodaemon", "--pidfile=", "flynn-host"]
    line += ["--etcd", etcd] if (etcd := environment.get("ETCD")) else ["--solo"]
    line += ["--listen", environment.get("LISTEN") or DEFAULT_LISTEN]
    line += ["--state-dir", state_directory(environment)]
    if host_id := environment.get("HOST_ID"):
        line += ["--id", host_id]
    external = environment.get("EXTERNAL") or ("" if has_default_route() else "127.0.0.1")
    if external:
        line += ["--external", external]
    if bind := environment.get("BIND"):
        line += ["--bind", bind]
    return line + shlex.split(environment.get("ARGS", ""))


def url_of(listen: str) -> str:
    """Where something that listens like this is reached from this machine; empty if that can't be told.

    :param listen: an endpoint description as Twisted understands it, ``tcp:1113:interface=10.0.0.1``.
    """
    kind, *arguments = listen.replace("\\:", "\0").split(":")
    if kind not in ("tcp", "tcp6", "ssl"):
        return ""
    named = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    plain = [argument for argument in arguments if "=" not in argument]
    port = named.get("port") or (plain[0] if plain else "1113")
    interface = named.get("interface", "").replace("\0", ":")
    if interface in ("", "0.0.0.0", "::"):
        interface = "127.0.0.1"
    host = f"[{interface}]" if ":" in interface else interface
    return f"{'https' if kind == 'ssl' else 'http'}://{host}:{port}"


def next_steps(url: str, host: str, state_dir: str) -> str:
    """What to try, as lines to copy; with a new job ID each time."""
    job = f"hello{secrets.token_hex(3)}"
    # The first process of a container hears TERM only if it has asked for it.
    script = "trap exit TERM; echo hello from $HOSTNAME; sleep 60 & wait"
    config = {"cmd": ["sh", "-c", script]}
    body = {host: [{"id": job, "artifact": {"url": "busybox:latest"}, "config": config}]}
    return NEXT.format(url=url, host=host, job=job, state_dir=state_dir, body=json.dumps(body))


def ready_host(url: str) -> str | None:
    """The ID of the host that answers there; None while it isn't ready."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never ask a proxy for ourselves
    try:
        opener.open(f"{url}/ready", timeout=5).close()
        with opener.open(f"{url}/host/status", timeout=5) as reply:
            status: dict[str, Any] = json.load(reply)
    except (OSError, ValueError):
        return None
    return str(status["id"])


def is_taken(url: str) -> bool:
    """Whether something listens there already, which could be mistaken for ourselves."""
    parts = urllib.parse.urlsplit(url)
    try:
        socket.create_connection((parts.hostname, parts.port), timeout=5).close()
    except OSError:
        return False
    return True


def announce(url: str, state_dir: str) -> None:
    """Wait until flynn-host is ready, then say so. Runs in a thread of its own."""
    late = time.monotonic() + PATIENCE
    while (host := ready_host(url)) is None:
        time.sleep(0.1)
        if late and time.monotonic() > late:
            late = 0
            print(f"flynn-host is not ready yet; to see why: curl -sS {url}/ready", flush=True)
    print(next_steps(url, host, state_dir), flush=True)


@contextmanager
def foreground() -> Iterator[None]:
    """Have the terminal for ourselves, so that Ctrl-C ends flynn-host and not the make around it."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        yield
        return
    before = os.getpgrp()
    if os.tcgetpgrp(terminal) != before:
        yield  # we are in the background already
        return
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    signal.signal(
        signal.SIGTSTP, signal.SIG_IGN
    )  # make would not see that we stopped, and nobody could go on
    if os.getpid() != before:
        os.setpgid(0, 0)
    os.tcsetpgrp(terminal, os.getpgrp())
    try:
        yield
    finally:
        os.tcsetpgrp(terminal, before)


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def main() -> int:
    """Run flynn-host until it ends; the status to exit with."""
    environment = numbered(os.environ)
    listen = environment.get("LISTEN") or DEFAULT_LISTEN
    state_dir = state_directory(environment)
    url = url_of(listen)
    asked = False
    if url and is_taken(url):
        print(f"Something listens at {url} already; LISTEN=tcp:PORT chooses another port.", file=sys.stderr)
        return 1

    def end(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        process.send_signal(signal.SIGKILL if asked else signal.SIGTERM)
        asked = True

    with foreground():
        # A process group of its own: whatever signal comes to us or all around us, it gets exactly one.
        process = subprocess.Popen(command(environment), process_group=0, preexec_fn=_end_with_parent)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, end)
        if url:
            threading.Thread(target=announce, args=(url, state_dir), daemon=True).start()
        status = process.wait()
    if asked:
        print("flynn-host has ended. Its jobs go on running; the next start finds them again.", flush=True)
        return 0
    print(f"flynn-host ended by itself, with status {status}.", file=sys.stderr)
    return status if status > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
