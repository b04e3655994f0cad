"""What the operator decides of a host."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen


@frozen
class HostSettings:
    """One host's settings.

    :param external_ip: the address at which this host and its containers are reached.
    :param bind_ip: the address on which jobs' ports are published; empty for all.
    :param resources: what the machine has: memory in bytes, cpu in thousandths of a core.
    :param ports: the first and the last port that jobs can be given.
    :param force: end what an earlier instance booted.
    :param starts_at_once: how many jobs are created and started at the same time.
    """

    host_id: str
    external_ip: str = "127.0.0.1"
    bind_ip: str = ""
    attributes: Mapping[str, str] = field(factory=dict)
    resources: Mapping[str, int] = field(factory=dict)
    ports: tuple[int, int] = (55000, 65535)
    force: bool = False
    starts_at_once: int = 4
