"""What hosts say, and the jobs that they are sent. Fields that are not known here are passed over."""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

_NEVER_YEAR = 1


class Value(Struct, omit_defaults=True, frozen=True):
    """The base of all values here: JSON objects, whose empty fields are left out."""


# --- a job as it is asked for ---------------------------------------------------


class Artifact(Value, frozen=True):
    """Where a job's image comes from."""

    url: str = ""
    type: str = ""


class Quantity(Value, frozen=True):
    """What a job needs of a resource, and what it may never exceed."""

    request: int | None = None
    limit: int | None = None


class Resources(Value, frozen=True):
    """What a job asks of the host; memory in bytes, cpu in thousandths of a core."""

    memory: Quantity | None = None
    cpu: Quantity | None = None
    max_fd: Quantity | None = None
    max_procs: Quantity | None = None


class Mount(Value, frozen=True):
    """The host's path ``target``, seen at the container's path ``location``."""

    location: str = ""
    target: str = ""
    writeable: bool = False


class Volume(Value, frozen=True):
    """The volume of this name, seen at the container's path ``target``."""

    target: str = ""
    volume: str = ""
    writeable: bool = False


class Port(Value, frozen=True):
    """A port of a job; 0 lets the host choose."""

    port: int = 0
    proto: str = ""
    service: Any = None


class Config(Value, frozen=True):
    """How a job's container is set up.

    :param stop_timeout: nanoseconds between TERM and KILL when it is stopped.
    """

    tty: bool = False
    stdin: bool = False
    data: bool = False
    host_network: bool = False
    disable_log: bool = False
    entry_point: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    env: dict[str, str] | None = None
    mounts: tuple[Mount, ...] | None = None
    volumes: tuple[Volume, ...] | None = None
    ports: tuple[Port, ...] | None = None
    working_dir: str = ""
    uid: int | None = None
    stop_timeout: int | None = None


class Job(Value, frozen=True):
    """A process that is to run in a container."""

    id: str = ""
    metadata: dict[str, str] | None = None
    artifact: Artifact | None = None
    resources: Resources | None = None
    config: Config | None = None
    resurrect: bool = False


# --- a job as it goes on ----------------------------------------------------------


class Status(enum.IntEnum):
    """The state of a job, for programs."""

    STARTING = 0
    RUNNING = 1
    DONE = 2
    CRASHED = 3
    FAILED = 4

    @property
    def ended(self) -> bool:
        """Whether nothing can follow this state."""
        return self >= Status.DONE


class ActiveJob(Value, frozen=True):
    """A job on a host, with how it goes; see docs/http-api.md for the fields."""

    job: Job
    host_id: str = ""
    status: Status = Status.STARTING
    phase: str = ""
    detail: str = ""
    accepted_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    exit_status: int = 0
    error: str = ""
    container_id: str = ""
    internal_ip: str = ""
    force_stop: bool = False
    oom_killed: bool = False

    @property
    def id(self) -> str:
        """The job's ID."""
        return self.job.id

    @property
    def ended(self) -> bool:
        """Whether the job is over for good."""
        return self.status.ended


class JobEvent(Value, frozen=True):
    """Something happened to a job, which left it as given: create, start, stop or error."""

    event: str
    job_id: str = ""
    job: ActiveJob | None = None


class LogLine(Value, frozen=True):
    """A line that a job wrote, without the newline at its end, or a part of a long one.

    :param time: when it was written, RFC 3339 with nine decimals.
    :param base64: what it is when it is no UTF-8; else it is ``data``.
    :param partial: its line goes on in the next one of the same stream.
    """

    stream: str = "stdout"
    time: str = ""
    data: str | None = None
    base64: bytes | None = None
    partial: bool = False

    @property
    def content(self) -> bytes:
        """What was written."""
        return (self.data or "").encode() if self.base64 is None else self.base64


# --- hosts ------------------------------------------------------------------------


class Host(Value, frozen=True):
    """A host of the cluster.

    :param addr: where its API is reached, if that is known.
    :param state: empty, ``down`` or ``draining``.
    :param jobs: the jobs that it is meant to have, as far as they were asked for.
    :param resources: memory in bytes, cpu in thousandths of a core.
    """

    id: str = ""
    addr: str = ""
    state: str = ""
    metadata: dict[str, str] | None = None
    resources: dict[str, int] | None = None
    jobs: tuple[Job, ...] | None = None


class Hosts(Value, frozen=True):
    """The hosts of the cluster; ``complete`` is False while some that are known have not reported yet."""

    hosts: tuple[Host, ...]
    complete: bool = True


class HostEvent(Value, frozen=True):
    """A host came to the cluster or left it, was lost from sight or is back: add, remove, down, up."""

    event: str
    host_id: str = ""


class Leader(Value, frozen=True):
    """Who leads the cluster; ``addr`` is where its API is reached."""

    id: str = ""
    addr: str = ""
    term: int = 0
    since: datetime | None = None


class Placement(Value, frozen=True):
    """What became of one job of a batch; ``state`` as starting, running, done, crashed or failed."""

    id: str
    host_id: str
    state: str = ""


class Check(Value, frozen=True):
    """One thing that was looked at, and how it is."""

    name: str = ""
    ok: bool = False
    detail: str = ""


class Readiness(Value, frozen=True):
    """Whether a host can run jobs, point by point."""

    ready: bool
    checks: tuple[Check, ...]


def known_time(time: datetime | None) -> datetime | None:
    """A time as a host tells it; None if it is not known."""
    return None if time is None or time.year == _NEVER_YEAR else time


encode = msgspec.json.encode
"""The JSON of a value."""
