"""From a job to the container that runs it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from attrs import frozen

from flynnhost.canonical import canonical
from flynnhost.errors import InvalidField
from flynnhost.image import parse_image
from flynnhost.interfaces import Bind, ContainerSpec, Limits, PublishedPort
from flynnhost.model import ActiveJob, Job, Quantity, Resources

LABEL_HOST = "io.flynn.host"
LABEL_JOB = "io.flynn.job"
LABEL_TERM = "io.flynn.term"
LABEL_DIGEST = "io.flynn.digest"
LABEL_PORTS = "io.flynn.ports"
LABEL_SPEC = "io.flynn.spec"

DEFAULT_MEMORY_BYTES = 1 << 30
"""Flynn's own default limit."""

DEFAULT_OPEN_FILES = 10_000
"""Flynn's own default limit."""

DEFAULT_PIDS = 4096
"""Enough for any one service, too few for a fork bomb to take the host down."""

DATA_PATH = "/data"
"""Where a job with ``data`` finds its volume."""


def container_name(job_id: str) -> str:
    """The name of a job's container: the engine then refuses a second one."""
    return f"flynn-{job_id}"


def host_labels(host_id: str) -> Mapping[str, str]:
    """What all containers of a host have in common, and nobody else's have."""
    return {LABEL_HOST: host_id}


def check_supported(job: Job) -> None:
    """Refuse what this host would have to ignore.

    :raises InvalidField: naming the first such field.
    """
    for index, port in enumerate(job.config.ports):
        if port.service is not None:
            raise InvalidField(
                f"config.ports[{index}].service", "can't be honoured: this host registers no services"
            )
    if job.resurrect:
        raise InvalidField("resurrect", "can't be honoured: this host does not start jobs again")


@frozen
class JobContainers:
    """Makes container specs for the jobs of one host.

    :param external_ip: the address at which this host is reached.
    :param bind_ip: the address on which ports are published; empty for all.
    """

    host_id: str
    external_ip: str
    bind_ip: str

    def spec(self, active: ActiveJob) -> ContainerSpec:
        """The container for a job whose ports are leased."""
        job, config = active.job, active.job.config
        return ContainerSpec(
            name=container_name(job.id),
            image=parse_image(job.artifact.url).reference,
            labels=self._labels(active),
            hostname=job.id,
            entry_point=config.entry_point,
            cmd=config.cmd,
            env=dict(self._env(active)),
            tty=config.tty,
            stdin=config.stdin,
            working_dir=config.working_dir,
            user="" if config.uid is None else str(config.uid),
            host_network=config.host_network,
            ports=() if config.host_network else self._ports(active),
            binds=_binds(job),
            volumes=(DATA_PATH,) if config.data else (),
            limits=limits(job.resources),
            keep_output=not config.disable_log,
        )

    def _labels(self, active: ActiveJob) -> dict[str, str]:
        return {
            LABEL_HOST: self.host_id,
            LABEL_JOB: active.id,
            LABEL_TERM: str(active.term),
            LABEL_DIGEST: active.digest,
            LABEL_PORTS: ",".join(map(str, active.host_ports)),
            LABEL_SPEC: canonical(active.job).decode(),
        }

    def _env(self, active: ActiveJob) -> Iterator[tuple[str, str]]:
        yield from active.job.config.env.items()
        yield "HOSTNAME", active.id
        yield "EXTERNAL_IP", self.external_ip
        for index, port in enumerate(active.host_ports):
            if index == 0:
                yield "PORT", str(port)
            yield f"PORT_{index}", str(port)

    def _ports(self, active: ActiveJob) -> tuple[PublishedPort, ...]:
        return tuple(
            PublishedPort(container_port=leased, proto=port.proto, host_ip=self.bind_ip, host_port=leased)
            for port, leased in zip(active.job.config.ports, active.host_ports, strict=True)
        )


def limits(resources: Resources) -> Limits:
    """What a container may use: what its job asks for, within this host's defaults."""
    memory = _limit(resources.memory, DEFAULT_MEMORY_BYTES)
    return Limits(
        memory_bytes=memory,
        memory_reservation_bytes=resources.memory.request,
        nano_cpus=None if resources.cpu.limit is None else resources.cpu.limit * 1_000_000,
        cpu_shares=None if resources.cpu.request is None else max(2, resources.cpu.request * 1024 // 1000),
        open_files=_limit(resources.max_fd, DEFAULT_OPEN_FILES),
        pids=_limit(resources.max_procs, DEFAULT_PIDS),
    )


def _limit(quantity: Quantity, default: int) -> int:
    """The limit asked for, else the default, but never below what the job says it needs."""
    if quantity.limit is not None:
        return quantity.limit
    return max(default, quantity.request or 0)


def _binds(job: Job) -> tuple[Bind, ...]:
    mounts = (Bind(source=m.target, target=m.location, writeable=m.writeable) for m in job.config.mounts)
    volumes = (Bind(source=v.volume, target=v.target, writeable=v.writeable) for v in job.config.volumes)
    return (*mounts, *volumes)
