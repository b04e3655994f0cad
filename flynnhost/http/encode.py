"""From jobs, hosts and events to the JSON that Flynn's clients read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from flynnhost.cluster.stored import StoredJobs
from flynnhost.http.wire_types import (
    WireActiveJob,
    WireArtifact,
    WireCheck,
    WireConfig,
    WireHost,
    WireHostEvent,
    WireJob,
    WireJobEvent,
    WireMount,
    WirePlacement,
    WirePort,
    WireQuantity,
    WireResources,
    WireService,
    WireVolume,
)
from flynnhost.model import (
    ActiveJob,
    ContainerConfig,
    EventKind,
    HealthCheck,
    Host,
    HostEvent,
    HostEventKind,
    Job,
    JobEvent,
    JobStatus,
    Placement,
    Port,
    PortService,
    Quantity,
    Resources,
)

_NEVER = "0001-01-01T00:00:00Z"
_NANOSECONDS = 10**9
_JOBS_PER_PIECE = 32

_ANY_AMOUNT = Quantity()
_NO_RESOURCES = Resources()


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
    head = encode_json(WireHost(host.id, _full(host.attributes)))[:-1]
    if host.down:
        head += b',"state":"down"' if len(head) > 1 else b'"state":"down"'
    if jobs == "none" or not host.jobs:
        yield head + b"}"
        return
    yield head + b',"jobs":['
    separator = b""
    for start in range(0, len(host.jobs), _JOBS_PER_PIECE):
        yield separator + _some_jobs(host.jobs, start, jobs == "ids")[1:-1]
        separator = b","
    yield b"]}"


def _some_jobs(jobs: Sequence[Job], start: int, only_ids: bool) -> bytes:
    end = start + _JOBS_PER_PIECE
    if not only_ids:
        return encode_json([_from_job(job) for job in jobs[start:end]])
    # What is stored encoded need not be decoded for that.
    ids = jobs.ids(start, end) if isinstance(jobs, StoredJobs) else [job.id for job in jobs[start:end]]
    return encode_json([{"id": job_id} for job_id in ids])


def encode_job(job: Job) -> bytes:
    """A job as it was asked for."""
    return encode_json(_from_job(job))


def encode_job_event(event: JobEvent) -> bytes:
    """Something that happened to a job."""
    return encode_json(WireJobEvent(event.kind.value, event.job.id, _from_active(event.job)))


def encode_host_event(event: HostEvent) -> bytes:
    """A host that came or left."""
    return encode_json(WireHostEvent(event.kind.value, event.host_id))


def encode_placements(placements: Sequence[Placement]) -> bytes:
    """The short answer to a batch."""
    jobs = [WirePlacement(p.job_id, p.host_id, p.status.name.lower()) for p in placements]
    return encode_json({"jobs": jobs})


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
        job=_from_job(active.job, active.host_ports),
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


def _from_job(job: Job, host_ports: tuple[int, ...] = ()) -> WireJob:
    return WireJob(
        id=job.id,
        metadata=_full(job.metadata),
        artifact=WireArtifact(job.artifact.url, job.artifact.type),
        resources=None if job.resources == _NO_RESOURCES else _from_resources(job.resources),
        config=_from_config(job.config, host_ports),
        resurrect=job.resurrect,
    )


def _full(mapping: Mapping[str, str]) -> dict[str, str] | None:
    return mapping or None  # type: ignore[return-value]


def _from_config(config: ContainerConfig, host_ports: tuple[int, ...]) -> WireConfig:
    timeout = config.stop_timeout
    return WireConfig(
        tty=config.tty,
        stdin=config.stdin,
        data=config.data,
        host_network=config.host_network,
        disable_log=config.disable_log,
        entry_point=config.entry_point or None,
        cmd=config.cmd or None,
        env=_full(config.env),
        mounts=[WireMount(m.location, m.target, m.writeable) for m in config.mounts] or None,
        volumes=[WireVolume(v.target, v.volume, v.writeable) for v in config.volumes] or None,
        ports=_from_ports(config.ports, host_ports) if config.ports else None,
        working_dir=config.working_dir,
        uid=config.uid,
        stop_timeout=None if timeout is None else _nanoseconds(timeout),
    )


def _from_ports(ports: tuple[Port, ...], host_ports: tuple[int, ...]) -> list[WirePort]:
    wires = [WirePort(p.port, p.proto, _from_service(p.service)) for p in ports]
    for wire, leased in zip(wires, host_ports, strict=False):
        wire.port = wire.port or leased
    return wires


def _from_service(service: PortService | None) -> WireService | None:
    if service is None:
        return None
    return WireService(service.name, service.create, _from_check(service.check))


def _from_check(check: HealthCheck | None) -> WireCheck | None:
    if check is None:
        return None
    return WireCheck(
        type=check.type,
        interval=_nanoseconds(check.interval),
        threshold=check.threshold,
        kill_down=check.kill_down,
        start_timeout=_nanoseconds(check.start_timeout),
        path=check.path,
        host=check.host,
        match=check.match,
        flynn_status=check.status,
    )


def _from_resources(resources: Resources) -> WireResources:
    return WireResources(
        memory=_from_quantity(resources.memory),
        cpu=_from_quantity(resources.cpu),
        max_fd=_from_quantity(resources.max_fd),
        max_procs=_from_quantity(resources.max_procs),
    )


def _from_quantity(quantity: Quantity) -> WireQuantity | None:
    return None if quantity == _ANY_AMOUNT else WireQuantity(quantity.request, quantity.limit)


def _nanoseconds(seconds: float) -> int:
    return round(seconds * _NANOSECONDS)
