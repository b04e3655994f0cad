"""From jobs, hosts and events to the JSON that Flynn's clients read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from flynnhost.canonical import canonical, to_wire
from flynnhost.encoded import EncodedJobs, ListedJobs
from flynnhost.http.wire_types import WireActiveJob, WireHost, WireHostEvent, WireJobEvent, WirePlacement
from flynnhost.model import (
    ActiveJob,
    EventKind,
    Host,
    HostEvent,
    HostEventKind,
    Job,
    JobEvent,
    JobStatus,
    Placement,
)
from flynnhost.wire_job import WireJob

_NEVER = "0001-01-01T00:00:00Z"
_JOBS_PER_PIECE = 32
_PLACEMENTS_PER_PIECE = 100

_STATES = {status: status.name.lower() for status in JobStatus}


def _plain(value: object) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"can't write {type(value).__name__} as JSON")


_encoder = msgspec.json.Encoder(enc_hook=_plain)
encode_json = _encoder.encode


def encode_active_job(active: ActiveJob) -> bytes:
    """A job on a host."""
    return encode_json(_from_active(active))


def host_pieces(host: Host, jobs: str = "full") -> Iterator[bytes]:
    """A host with its jobs, in pieces, for there may be many jobs.

    :param jobs: ``full``, ``ids`` for their IDs only, or ``none``.
    """
    state = "down" if host.down else "draining" if host.draining else ""
    resources = dict(host.resources) or None
    head = encode_json(WireHost(host.id, _full(host.attributes), state, resources, host.addr))[:-1]
    if jobs == "none" or not host.jobs:
        yield head + b"}"
        return
    yield head + b',"jobs":['
    separator = b""
    for start in range(0, len(host.jobs), _JOBS_PER_PIECE):
        yield separator + _some_jobs(host.jobs, start, jobs == "ids")
        separator = b","
    yield b"]}"


def _some_jobs(jobs: Sequence[Job], start: int, only_ids: bool) -> bytes:
    end = start + _JOBS_PER_PIECE
    some = jobs if isinstance(jobs, EncodedJobs) else ListedJobs.of(jobs[start:end])
    if some is not jobs:
        start, end = 0, _JOBS_PER_PIECE
    if only_ids:
        return encode_json([{"id": job_id} for job_id in some.ids(start, end)])[1:-1]
    return b",".join(some.encoded(start, end))


def encode_job(job: Job) -> bytes:
    """A job as it was asked for."""
    return canonical(job)


def encode_job_event(event: JobEvent) -> bytes:
    """Something that happened to a job."""
    return encode_json(WireJobEvent(event.kind.value, event.job.id, _from_active(event.job)))


def encode_host_event(event: HostEvent) -> bytes:
    """A host that came or left."""
    return encode_json(WireHostEvent(event.kind.value, event.host_id))


def placement_pieces(placements: Sequence[Placement]) -> Iterator[bytes]:
    """The short answer to a batch, in pieces."""
    yield b'{"jobs":['
    for start in range(0, len(placements), _PLACEMENTS_PER_PIECE):
        some = placements[start : start + _PLACEMENTS_PER_PIECE]
        wires = [WirePlacement(p.job_id, p.host_id, _STATES[p.status]) for p in some]
        yield (b"," if start else b"") + encode_json(wires)[1:-1]
    yield b"]}"


def present_job(active: ActiveJob) -> JobEvent:
    """The event that brings a listener to where the job is now."""
    if active.status is JobStatus.STARTING:
        return JobEvent(EventKind.CREATE, active)
    if active.status is JobStatus.RUNNING:
        return JobEvent(EventKind.START, active)
    return JobEvent(EventKind.ERROR if active.status is JobStatus.FAILED else EventKind.STOP, active)


def present_host(host: Host) -> HostEvent:
    """The event that brings a listener to where the host is now."""
    return HostEvent(HostEventKind.ADD, host.id)


def _from_active(active: ActiveJob) -> WireActiveJob:
    return WireActiveJob(
        job=_with_ports(active),
        host_id=active.host_id,
        started_at=_time(active.started_at),
        ended_at=_time(active.ended_at),
        status=int(active.status),
        container_id=active.container_id,
        internal_ip=active.internal_ip,
        force_stop=active.force_stop,
        exit_status=active.exit_status or 0,
        error=active.error,
        phase=active.phase.value,
        detail=active.detail,
        oom_killed=active.oom_killed,
        accepted_at=active.accepted_at,
    )


def _time(time: datetime | None) -> datetime | str:
    return _NEVER if time is None else time


def _with_ports(active: ActiveJob) -> WireJob:
    """The job, with the ports that the host has chosen."""
    wire = to_wire(active.job)
    if wire.config is not None and wire.config.ports:
        for port, leased in zip(wire.config.ports, active.host_ports, strict=False):
            port.port = port.port or leased
    return wire


def _full(mapping: Mapping[str, str]) -> dict[str, str] | None:
    return mapping or None  # type: ignore[return-value]
