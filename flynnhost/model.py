"""What the system speaks of: jobs, hosts and events. Frozen values, no I/O."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from datetime import datetime

from attrs import field, frozen
from attrs.converters import optional

# --- a job, as it was asked for ----------------------------------------------


@frozen
class Artifact:
    """Where a job's image comes from.

    :param url: an image reference, ``docker://`` reference, or Flynn's URL form.
    :param type: always ``docker``.
    """

    url: str = ""
    type: str = "docker"


@frozen
class Quantity:
    """What a job asks of one resource: what it needs, and what it may never exceed."""

    request: int | None = None
    limit: int | None = None


@frozen
class Resources:
    """What a job asks of the host; memory in bytes, cpu in thousandths of a core."""

    memory: Quantity = Quantity()
    cpu: Quantity = Quantity()
    max_fd: Quantity = Quantity()
    max_procs: Quantity = Quantity()


@frozen
class Mount:
    """A path of the host seen in the container.

    :param location: the absolute path in the container.
    :param target: the absolute path on the host.
    """

    location: str
    target: str
    writeable: bool = False


@frozen
class VolumeBinding:
    """A named volume seen in the container.

    :param target: the absolute path in the container.
    :param volume: the volume's name.
    """

    target: str
    volume: str
    writeable: bool = False


@frozen
class HealthCheck:
    """How to find out whether a service is healthy; intervals in seconds."""

    type: str = "tcp"
    interval: float = field(default=0.0, converter=float)
    threshold: int = 0
    kill_down: bool = False
    start_timeout: float = field(default=0.0, converter=float)
    path: str = ""
    host: str = ""
    match: str = ""
    status: int = 0


@frozen
class PortService:
    """The service under which a port is to be registered."""

    name: str
    create: bool = False
    check: HealthCheck | None = None


@frozen
class Port:
    """A port of a job.

    :param port: the port's number in the container and on the host; 0 lets the host choose one.
    :param proto: ``tcp`` or ``udp``.
    """

    port: int = 0
    proto: str = "tcp"
    service: PortService | None = None


@frozen
class ContainerConfig:
    """How a job's container is set up.

    :param uid: the numeric user to run as; None leaves it to the image.
    :param stop_timeout: seconds between TERM and KILL when the job is stopped; None is the host's default.
    """

    tty: bool = False
    stdin: bool = False
    data: bool = False
    host_network: bool = False
    disable_log: bool = False
    entry_point: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: Mapping[str, str] = field(factory=dict)
    mounts: tuple[Mount, ...] = ()
    volumes: tuple[VolumeBinding, ...] = ()
    ports: tuple[Port, ...] = ()
    working_dir: str = ""
    uid: int | None = None
    stop_timeout: float | None = field(default=None, converter=optional(float))


@frozen
class Job:
    """A process that someone wants to run in a container. Never changed once accepted."""

    id: str
    artifact: Artifact = Artifact()
    config: ContainerConfig = ContainerConfig()
    resources: Resources = Resources()
    metadata: Mapping[str, str] = field(factory=dict)
    resurrect: bool = False


# --- a job, as it is going on a host -----------------------------------------


class JobStatus(enum.IntEnum):
    """The state of a job as programs see it; the numbers are Flynn's."""

    STARTING = 0
    RUNNING = 1
    DONE = 2
    CRASHED = 3
    FAILED = 4

    @property
    def ended(self) -> bool:
        """Whether nothing can follow this state."""
        return self >= JobStatus.DONE


class Phase(enum.Enum):
    """The state of a job as people see it, in the order of a job's life."""

    ACCEPTED = "accepted"
    PULLING = "pulling"
    CREATING = "creating"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    ENDED = "ended"


@frozen
class ActiveJob:
    """A job on a host, with all that is known of how it goes.

    :param digest: what ``digest(job)`` is, kept because it is asked for often.
    :param term: the term of the leader that sent the job; 0 for a job put on the host directly.
    :param detail: what the phase is waiting for or how far it is, for people.
    :param host_ports: the port of the host for each of the job's ports, once they are leased.
    :param force_stop: somebody asked for the job to be stopped.
    :param exit_status: the exit status; None until it ended, -1 if it was lost with the container.
    :param error: why the job failed or crashed, in words; empty when there is nothing to say.
    """

    job: Job
    host_id: str
    digest: str
    accepted_at: datetime
    term: int = 0
    status: JobStatus = JobStatus.STARTING
    phase: Phase = Phase.ACCEPTED
    detail: str = ""
    container_id: str = ""
    internal_ip: str = ""
    host_ports: tuple[int, ...] = ()
    force_stop: bool = False
    started_at: datetime | None = None
    ended_at: datetime | None = None
    exit_status: int | None = None
    oom_killed: bool = False
    error: str = ""

    @property
    def id(self) -> str:
        """The job's ID."""
        return self.job.id

    @property
    def ended(self) -> bool:
        """Whether the job is over for good."""
        return self.status.ended


class EventKind(enum.Enum):
    """What happened to a job."""

    CREATE = "create"
    START = "start"
    STOP = "stop"
    ERROR = "error"


@frozen
class JobEvent:
    """Something happened to a job, which left it as given."""

    kind: EventKind
    job: ActiveJob


# --- hosts -------------------------------------------------------------------


@frozen
class Host:
    """A host of the cluster and the jobs that are meant to be on it.

    :param down: the host is not connected; its jobs may go on or not.
    :param draining: the host is to get no more jobs.
    :param resources: what its machine has: memory in bytes, cpu in thousandths of a core.
    :param addr: where its HTTP API is reached, as ``HOST:PORT``; empty if that is not known.
    """

    id: str
    attributes: Mapping[str, str] = field(factory=dict)
    jobs: Sequence[Job] = ()
    down: bool = False
    draining: bool = False
    resources: Mapping[str, int] = field(factory=dict)
    addr: str = ""


class HostEventKind(enum.Enum):
    """What happened to a host."""

    ADD = "add"
    REMOVE = "remove"
    DOWN = "down"
    UP = "up"


@frozen
class HostEvent:
    """A host came to the cluster or left it, was lost from sight or is back."""

    kind: HostEventKind
    host_id: str


@frozen
class Placement:
    """What became of one job of a batch: it is on its host, in this state."""

    job_id: str
    host_id: str
    status: JobStatus
