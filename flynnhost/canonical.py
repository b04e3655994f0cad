"""A job's one encoding: what is sent to hosts, kept by them and by their leader, and told to clients.

It is what Flynn's clients read, so that a job is encoded once on its whole way.
"""

from __future__ import annotations

import hashlib
from decimal import Decimal

import msgspec

from flynnhost.model import (
    Artifact,
    ContainerConfig,
    HealthCheck,
    Job,
    Mount,
    Port,
    PortService,
    Quantity,
    Resources,
    VolumeBinding,
)
from flynnhost.wire_job import (
    LONGEST,
    WireArtifact,
    WireCheck,
    WireConfig,
    WireJob,
    WireMount,
    WirePort,
    WireQuantity,
    WireResources,
    WireService,
    WireVolume,
)

_NANOSECONDS = 10**9

_EXACT_BELOW = 10**15
"""Nanoseconds that a float of seconds tells apart; above, fifteen digits count."""

_ANY_AMOUNT = Quantity()
_NO_RESOURCES = Resources()

_decoder = msgspec.json.Decoder(WireJob)

#: Maps in the order of their keys, so that it does not matter in which order they came.
encode_wire = msgspec.json.Encoder(order="deterministic").encode
"""The encoding of a wire job that is as ``to_wire`` makes them."""


def canonical(job: Job) -> bytes:
    """The one encoding of a job's content, from which ``parse_canonical`` makes it again.

    Fields that have their default are left out, so that a field added to the
    model later changes nothing for jobs that don't use it.
    """
    return encode_wire(to_wire(job))


def parse_canonical(data: bytes | str) -> Job:
    """The job that was encoded by ``canonical``.

    :raises ValueError: if the data is not such an encoding.
    """
    wire = _decoder.decode(data)
    if not wire.id:
        raise ValueError("a job without ID")
    return from_wire(wire)


def digest(job: Job) -> str:
    """What two jobs have in common exactly when their content is the same: 64 hex digits."""
    return hashlib.sha256(canonical(job)).hexdigest()


# --- to the wire -------------------------------------------------------------


def to_wire(job: Job) -> WireJob:
    """A job in the form in which it is written."""
    return WireJob(
        id=job.id,
        metadata=dict(job.metadata) or None,
        artifact=WireArtifact(job.artifact.url, job.artifact.type),
        resources=None if job.resources == _NO_RESOURCES else _wire_resources(job.resources),
        config=_wire_config(job.config),
        resurrect=job.resurrect,
    )


def to_nanoseconds(seconds: float) -> int:
    """A duration as it is written, of which the seconds can be made again."""
    nanoseconds = round(seconds * _NANOSECONDS)
    if nanoseconds < _EXACT_BELOW:
        return nanoseconds
    return min(int(Decimal(f"{seconds:.15g}").scaleb(9)), LONGEST)


def to_seconds(nanoseconds: int) -> float:
    """A duration as it is known here."""
    return nanoseconds / _NANOSECONDS


def _wire_config(config: ContainerConfig) -> WireConfig:
    return WireConfig(
        tty=config.tty,
        stdin=config.stdin,
        data=config.data,
        host_network=config.host_network,
        disable_log=config.disable_log,
        entry_point=config.entry_point or None,
        cmd=config.cmd or None,
        env=dict(config.env) or None,
        mounts=[WireMount(m.location, m.target, m.writeable) for m in config.mounts] or None,
        volumes=[WireVolume(v.target, v.volume, v.writeable) for v in config.volumes] or None,
        ports=[WirePort(p.port, p.proto, _wire_service(p.service)) for p in config.ports] or None,
        working_dir=config.working_dir,
        uid=config.uid,
        stop_timeout=None if config.stop_timeout is None else to_nanoseconds(config.stop_timeout),
    )


def _wire_service(service: PortService | None) -> WireService | None:
    if service is None:
        return None
    return WireService(service.name, service.create, _wire_check(service.check))


def _wire_check(check: HealthCheck | None) -> WireCheck | None:
    if check is None:
        return None
    return WireCheck(
        type=check.type,
        interval=to_nanoseconds(check.interval),
        threshold=check.threshold,
        kill_down=check.kill_down,
        start_timeout=to_nanoseconds(check.start_timeout),
        path=check.path,
        host=check.host,
        match=check.match,
        flynn_status=check.status,
    )


def _wire_resources(resources: Resources) -> WireResources:
    return WireResources(
        memory=_wire_quantity(resources.memory),
        cpu=_wire_quantity(resources.cpu),
        max_fd=_wire_quantity(resources.max_fd),
        max_procs=_wire_quantity(resources.max_procs),
    )


def _wire_quantity(quantity: Quantity) -> WireQuantity | None:
    return None if quantity == _ANY_AMOUNT else WireQuantity(quantity.request, quantity.limit)


# --- from the wire -----------------------------------------------------------


def from_wire(wire: WireJob) -> Job:
    """The job that such a form is of. Nothing is checked."""
    artifact = wire.artifact
    return Job(
        id=wire.id,
        artifact=Artifact() if artifact is None else Artifact(artifact.url, artifact.type or "docker"),
        config=ContainerConfig() if wire.config is None else _config(wire.config),
        resources=_NO_RESOURCES if wire.resources is None else _resources(wire.resources),
        metadata=wire.metadata or {},
        resurrect=wire.resurrect,
    )


def _config(wire: WireConfig) -> ContainerConfig:
    return ContainerConfig(
        tty=wire.tty,
        stdin=wire.stdin,
        data=wire.data,
        host_network=wire.host_network,
        disable_log=wire.disable_log,
        entry_point=wire.entry_point or (),
        cmd=wire.cmd or (),
        env=wire.env or {},
        mounts=tuple(Mount(m.location, m.target, m.writeable) for m in wire.mounts or ()),
        volumes=tuple(VolumeBinding(v.target, v.volume, v.writeable) for v in wire.volumes or ()),
        ports=tuple(Port(p.port, p.proto or "tcp", _service(p.service)) for p in wire.ports or ()),
        working_dir=wire.working_dir,
        uid=wire.uid,
        stop_timeout=None if wire.stop_timeout is None else to_seconds(wire.stop_timeout),
    )


def _service(wire: WireService | None) -> PortService | None:
    return None if wire is None else PortService(wire.name, wire.create, _check(wire.check))


def _check(wire: WireCheck | None) -> HealthCheck | None:
    if wire is None:
        return None
    return HealthCheck(
        type=wire.type or "tcp",
        interval=to_seconds(wire.interval),
        threshold=wire.threshold,
        kill_down=wire.kill_down,
        start_timeout=to_seconds(wire.start_timeout),
        path=wire.path,
        host=wire.host,
        match=wire.match,
        status=wire.flynn_status or wire.status,
    )


def _resources(wire: WireResources) -> Resources:
    return Resources(
        memory=_quantity(wire.memory),
        cpu=_quantity(wire.cpu),
        max_fd=_quantity(wire.max_fd),
        max_procs=_quantity(wire.max_procs),
    )


def _quantity(wire: WireQuantity | None) -> Quantity:
    return _ANY_AMOUNT if wire is None else Quantity(wire.request, wire.limit)
