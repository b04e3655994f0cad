"""What a host tells of itself at a glance. What it does not tell is empty, 0 or None."""

from __future__ import annotations

from datetime import datetime

from flynnhost.client.values import Check, Value


class Disk(Value, frozen=True):
    """A file system; ``error`` tells why nothing else is known of it."""

    path: str = ""
    total_bytes: int = 0
    free_bytes: int = 0
    error: str = ""


class Process(Value, frozen=True):
    """What the host's process uses."""

    pid: int = 0
    memory_bytes: int = 0
    open_files: int = 0
    open_files_limit: int = 0


class Engine(Value, frozen=True):
    """The container engine. All but ``url`` is empty until it has told what it is."""

    url: str = ""
    version: str = ""
    api_version: str = ""
    root_dir: str = ""
    storage_driver: str = ""
    cgroup_version: str = ""
    memory_limit: bool = False
    cpu_limit: bool = False
    pids_limit: bool = False
    ip_forwarding: bool = False
    bridge_iptables: bool = False
    live_restore: bool = False
    disk: Disk | None = None


class Etcd(Value, frozen=True):
    """What keeps the cluster together.

    :param answers: whether it has confirmed the host's lease lately.
    """

    endpoints: tuple[str, ...] = ()
    answers: bool = False
    lease_remaining: float = 0.0
    lease_ttl: float = 0.0


class Ports(Value, frozen=True):
    """The ports that jobs can be given."""

    first: int = 0
    last: int = 0
    leased: int = 0


class HostStatus(Value, frozen=True):
    """A host; see docs/http-api.md for the fields."""

    id: str
    version: str = ""
    external_ip: str = ""
    addr: str = ""
    attributes: dict[str, str] | None = None
    resources: dict[str, int] | None = None
    draining: bool = False
    since: datetime | None = None
    ready: bool = False
    checks: tuple[Check, ...] = ()
    ports: Ports = Ports()
    listen: tuple[str, ...] = ()
    time: datetime | None = None
    solo: bool = False
    state_dir: Disk = Disk()
    process: Process = Process()
    engine: Engine = Engine()
    etcd: Etcd | None = None
