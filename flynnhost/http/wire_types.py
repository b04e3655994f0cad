"""What goes over the wire beside jobs: the JSON objects of the HTTP API, for writing."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import UNSET, Struct, UnsetType

from flynnhost.wire_job import WireJob


class WireActiveJob(Struct, omit_defaults=True, gc=False):
    """A job on a host. Go's decoder wants both times always."""

    job: WireJob
    host_id: str
    started_at: datetime | str
    ended_at: datetime | str
    status: int = 0
    container_id: str = ""
    internal_ip: str = ""
    force_stop: bool = False
    exit_status: int = 0
    error: str = ""
    phase: str = ""
    detail: str = ""
    oom_killed: bool = False
    accepted_at: datetime | None = None


class WireJobEvent(Struct, gc=False):
    """Something happened to a job."""

    event: str
    job_id: str
    job: WireActiveJob


class WireHost(Struct, omit_defaults=True, gc=False):
    """A host; its jobs are written after it, piece by piece."""

    id: str
    metadata: dict[str, str] | None = None
    state: str = ""
    resources: dict[str, int] | None = None
    addr: str = ""


class WireHostEvent(Struct, gc=False):
    """A host came or left."""

    event: str
    host_id: str


class WirePlacement(Struct, gc=False):
    """What became of one job of a batch."""

    id: str
    host_id: str
    state: str


class WireError(Struct, kw_only=True, gc=False):
    """Every error there is."""

    code: str
    message: str
    detail: Any | UnsetType = UNSET
    retry: bool
