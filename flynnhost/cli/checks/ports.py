"""The ports of the API and of jobs, on this machine."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

from flynnhost.cli.checks.finding import Finding, failed, ok, warning
from flynnhost.cli.checks.subject import Subject
from flynnhost.client.errors import BadAnswer

_SYSTEM = Path("/proc/sys/net/ipv4")


def check_api_port(subject: Subject) -> Iterator[Finding]:
    """Whether the port of the API is the host's, or could be."""
    if subject.status is not None:
        yield ok(
            "API port", f"the host listens on {', '.join(subject.status.listen) or subject.address.netloc}"
        )
    elif subject.here and not isinstance(subject.problem, BadAnswer):
        port = subject.address.port
        if _is_free(subject.address.host, port):
            yield ok("API port", f"{port} is free for the host")
        else:
            yield failed(
                "API port",
                f"{port} is taken by something that does not answer as a host does",
                f"'ss -ltnp sport = :{port}' shows by what: end it, or give the host another --listen.",
            )


def _is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            return False
        return True


def check_job_ports(subject: Subject, system: Path = _SYSTEM) -> Iterator[Finding]:
    """Whether the system gives ports that are meant for jobs to outgoing connections.

    :param system: where it tells so.
    """
    if not subject.here:
        return
    first, last = subject.ports
    try:
        low, high = map(int, (system / "ip_local_port_range").read_text(encoding="ascii").split())
        reserved = _ranges((system / "ip_local_reserved_ports").read_text(encoding="ascii"))
    except (OSError, ValueError) as e:
        yield warning(
            "job ports", f"the system does not say which ports it uses itself: {e}", "This is not Linux?"
        )
        return
    shared = max(first, low), min(last, high)
    # What of it is kept for us is not given to others.
    taken = set(range(shared[0], shared[1] + 1)).difference(*(range(a, b + 1) for a, b in reserved))
    if taken:
        yield warning(
            "job ports",
            f"of {first}-{last}, {len(taken)} may be in use by outgoing connections: the system takes"
            " those from"
            f" {low}-{high}",
            f"sysctl -w net.ipv4.ip_local_reserved_ports={first}-{last}, and in /etc/sysctl.d for the"
            " next start.",
        )
    else:
        yield ok("job ports", f"{first}-{last} are given to jobs alone")


def _ranges(text: str) -> list[tuple[int, int]]:
    found = []
    for part in text.strip().split(","):
        if part:
            first, _, last = part.partition("-")
            found.append((int(first), int(last or first)))
    return found
