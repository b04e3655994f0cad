"""The seams of flynn-host: what its parts need of each other, and of the world.

Everything behind these interfaces can be replaced by a fake that passes the
same contract (see ``flynnhost.testing``). All methods are called on the reactor
thread, all callbacks are made on it, and no method blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, TypeVar

from attrs import field, frozen
from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from flynnhost.errors import FlynnHostError
from flynnhost.keyvalues import (
    Compare,
    Delete,
    EtcdMember,
    EtcdStatus,
    Found,
    Get,
    Grant,
    KeyEvent,
    KeyRange,
    LeaseState,
    Put,
    Removed,
    Stored,
    TxnResult,
)
from flynnhost.model import ActiveJob, Host, HostEvent, Job, JobEvent, JobStatus, Placement

# --- containers --------------------------------------------------------------


@frozen
class PublishedPort:
    """A port of the container that the host passes on; ``host_ip`` may be empty for all addresses."""

    container_port: int
    proto: str
    host_ip: str
    host_port: int


@frozen
class Bind:
    """Something of the host seen in the container.

    :param source: an absolute path of the host, or the name of a volume.
    """

    source: str
    target: str
    writeable: bool


@frozen
class Limits:
    """What a container may use; None where nothing is limited."""

    memory_bytes: int | None = None
    memory_reservation_bytes: int | None = None
    nano_cpus: int | None = None
    cpu_shares: int | None = None
    open_files: int | None = None
    pids: int | None = None


@frozen
class ContainerSpec:
    """A container to be made. Empty values leave the matter to the image.

    :param volumes: container paths that get a nameless volume of their own.
    :param keep_output: whether the engine keeps stdout and stderr to be read again.
    """

    name: str
    image: str
    labels: Mapping[str, str]
    hostname: str = ""
    entry_point: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: Mapping[str, str] = field(factory=dict)
    tty: bool = False
    stdin: bool = False
    working_dir: str = ""
    user: str = ""
    host_network: bool = False
    ports: tuple[PublishedPort, ...] = ()
    binds: tuple[Bind, ...] = ()
    volumes: tuple[str, ...] = ()
    limits: Limits = Limits()
    keep_output: bool = True


@frozen
class ContainerState:
    """What the engine says of one container.

    :param started_at: when its process was last started; None if it never was.
    :param exit_code: of its last process; meaningful when it was started and does not run.
    :param error: the engine's words if it could not start the process.
    """

    id: str
    name: str
    labels: Mapping[str, str]
    running: bool
    started_at: datetime | None
    finished_at: datetime | None
    exit_code: int
    oom_killed: bool
    error: str
    internal_ip: str
    pid: int


@frozen
class ContainerSummary:
    """One container of a listing."""

    id: str
    name: str
    labels: Mapping[str, str]
    running: bool


@frozen
class LogQuery:
    """Which part of a container's output is wanted.

    :param tail: how many lines from the end; None for all.
    :param follow: go on with what is written from now on, until the container ends.
    """

    stdout: bool = True
    stderr: bool = True
    follow: bool = False
    tail: int | None = None


class ILogReceiver(Protocol):
    """Takes a container's output as it comes."""

    def output_received(self, stream: int, data: bytes) -> None:
        """Some output came.

        :param stream: 1 for stdout, 2 for stderr; always 1 for a container with a TTY.
        """

    def output_ended(self, error: Exception | None) -> None:
        """Nothing more will come.

        :param error: why the output may be incomplete; None at its proper end.
        """


class ILogStream(Protocol):
    """A running transfer of output. It can be paused, which holds back the engine too."""

    def pauseProducing(self) -> None:
        """Send nothing until ``resumeProducing``."""

    def resumeProducing(self) -> None:
        """Go on after ``pauseProducing``."""

    def stopProducing(self) -> None:
        """End the transfer and free all it holds. ``output_ended`` is not called any more."""


class IContainerListener(Protocol):
    """Hears of what happens to containers."""

    def engine_connected(self) -> None:
        """Events flow (again). Some may have been missed: look at everything once."""

    def engine_lost(self, reason: str) -> None:
        """Events don't flow any more; the watch goes on trying by itself."""

    def container_changed(self, container_id: str, action: str, labels: Mapping[str, str]) -> None:
        """A container with our labels did something.

        :param action: the engine's word: ``start``, ``die``, ``oom``, ``destroy`` and others.
        """


class IWatch(Protocol):
    """A running watch of the engine's events."""

    def stop(self) -> Deferred[None]:
        """End the watch. Fires when nothing of it runs any more; never fails."""


class IContainers(Interface):
    """A container engine.

    Every Deferred fails with ``EngineUnavailable`` when the engine is gone, does not
    answer within the adapter's deadline or is shutting down; the work may have been done
    all the same, so callers look before they repeat it. Other failures are named
    at each method; anything else the engine refuses is ``EngineRefused``.
    Cancelling a Deferred stops the wait, not the work.
    """

    def ping() -> Deferred[None]:
        """Fires when the engine answers. Has a lane of its own, never held up by other calls."""

    def pull(image: str, progress: Callable[[str], None]) -> Deferred[None]:
        """Fetch an image. Fires when the engine has it.

        :param progress: called with a short text for people, at most a few times a second.
        :raises PullFailed: (as the Deferred's failure) when it can't be had, or nothing
            came for the inactivity deadline.
        """

    def create(spec: ContainerSpec) -> Deferred[str]:
        """Make a container without starting it. Fires with its ID.

        :raises ImageMissing: when the engine does not have the image.
        :raises NameTaken: when there is a container of that name.
        """

    def start(container_id: str) -> Deferred[None]:
        """Start a container. Fires also when it runs already.

        :raises NoSuchContainer: when it is not there.
        :raises PortTaken: when a published port is in use; the container remains, not started.
        """

    def inspect(container: str) -> Deferred[ContainerState]:
        """Fires with what is known of a container, by ID or name.

        :raises NoSuchContainer: when it is not there.
        """

    def kill(container_id: str, signal: int) -> Deferred[None]:
        """Send a signal to the container's first process. Fires when it was sent.

        :raises NoSuchContainer: when it is not there.
        :raises ContainerNotRunning: when it has ended.
        """

    def remove(container_id: str) -> Deferred[None]:
        """End a container at once and remove it with its nameless volumes. Fires when it
        is gone, also when it was not there.
        """

    def list_containers(labels: Mapping[str, str]) -> Deferred[list[ContainerSummary]]:
        """Fires with all containers, running or not, that have all the labels."""

    def logs(container_id: str, tty: bool, query: LogQuery, receiver: ILogReceiver) -> Deferred[ILogStream]:
        """Begin to pass on a container's output. Fires when the engine has agreed, before
        the first output.

        :param tty: whether the container was made with a TTY.
        :raises NoSuchContainer: when it is not there.
        """

    def watch(labels: Mapping[str, str], listener: IContainerListener) -> IWatch:
        """Begin to tell of the containers with these labels, until the watch is stopped,
        through any loss of the engine.
        """

    def close() -> Deferred[None]:
        """Free everything. Fires within seconds even when the engine hangs; never fails."""


# --- journal -----------------------------------------------------------------


@frozen
class JournalContents:
    """What a journal held when it was opened.

    :param highest_term: the highest leader's term this host has seen.
    :param set_aside: in words, what could not be read and where it was put.
    """

    jobs: tuple[ActiveJob, ...] = ()
    highest_term: int = 0
    set_aside: tuple[str, ...] = ()


class IJournal(Interface):
    """This host's jobs on disk. Later writes of the same job replace earlier ones, in order."""

    def open() -> Deferred[JournalContents]:
        """Fires with what was written before. What can't be read is set aside, not fatal.

        :raises JournalFailed: when nothing can be written there at all.
        """

    def write(jobs: Sequence[ActiveJob], term: int = 0) -> Deferred[None]:
        """Keep these jobs as they are now, all or none. Fires when they are on disk, and fails
        only when it is certain that they are not, and will not be.

        :param term: also remember this as the highest term seen, if it is.
        :raises JournalFailed: when they could not be written.
        """

    def forget(job_ids: Sequence[str]) -> Deferred[None]:
        """Drop these jobs. Fires when that is on disk.

        :raises JournalFailed: when it could not be written.
        """

    def close() -> Deferred[None]:
        """Write what waits, then free everything. Never fails."""


# --- feeds -------------------------------------------------------------------


class ISubscription(Protocol):
    """A place among the listeners of a feed."""

    def cancel(self) -> None:
        """Hear nothing more. May be called again."""


T_co = TypeVar("T_co", covariant=True)


class IFeed(Protocol[T_co]):
    """Numbered events, the last of which are kept for those who come back."""

    @property
    def last_id(self) -> str:
        """The ID of the newest event; what comes after it is what comes from now on."""

    def subscribe(
        self,
        listener: Callable[[str, T_co], None],
        *,
        key: str | None = None,
        after: str | None = None,
        ended: Callable[[], None] | None = None,
    ) -> ISubscription:
        """Call ``listener(event_id, event)`` for each event from now on, at once and in order.

        :param key: only the events of this job (or host).
        :param after: begin with the kept events after this ID, before returning.
        :param ended: called when nothing more will come, unless the subscription was cancelled.
        :raises ResyncNeeded: when those are not kept any more.
        """


# --- this host, as others see it ---------------------------------------------


@frozen
class Check:
    """One line of a readiness report."""

    name: str
    ok: bool
    detail: str


class IAgent(Interface):
    """This host and its jobs.

    Until the journal was read, everything but ``readiness`` raises or fails with
    ``NotReady``: a short list is not an empty host.
    """

    host_id: str = Attribute("this host's ID")
    attributes: Mapping[str, str] = Attribute("what the operator says of this host")
    events: Any = Attribute("IFeed[JobEvent] of all jobs; the key is the job's ID")

    def jobs() -> Mapping[str, ActiveJob]:
        """All jobs of this host by ID, ended ones too. A view: don't keep it."""

    def job(job_id: str) -> ActiveJob:
        """One job.

        :raises UnknownJob: when this host has no such job.
        """

    def accept(jobs: Sequence[Job], term: int) -> Deferred[list[ActiveJob]]:
        """Take these jobs, all or none, and run them. Fires with them in the given order when
        they are on disk; what was accepted before with the same content is not run again.

        :param term: of the leader that sends them; 0 for somebody at this very host.
        :raises InvalidField: when this host can't honour one; the path begins ``[INDEX].``.
        :raises JobConflict: when an ID is taken by other content.
        :raises StaleTerm: when a later leader was heard already.
        :raises JournalFailed: when they could not be written.
        """

    def stop_job(job_id: str) -> Deferred[ActiveJob]:
        """End a job: TERM, a grace, KILL. Fires with the job when it has ended.

        :raises UnknownJob: when this host has no such job.
        :raises JobNotRunning: when it has ended already.
        :raises TookTooLong: when it did not end in time; the host goes on trying.
        """

    def signal_job(job_id: str, signal: int) -> Deferred[None]:
        """Send a signal to a running job. Fires when it was sent.

        :raises UnknownJob: when this host has no such job.
        :raises JobNotRunning: when it has ended or has not started.
        """

    def job_output(job_id: str, query: LogQuery, receiver: ILogReceiver) -> Deferred[ILogStream]:
        """Begin to pass on a job's output; for one that has not started yet, from its start.

        :raises UnknownJob: when this host has no such job.
        :raises OutputGone: when there is none to be had.
        """

    def readiness() -> tuple[Check, ...]:
        """Whether this host can run jobs, point by point."""

    def status() -> Mapping[str, Any]:
        """What an operator wants to know of this host at a glance, as JSON values."""


# --- the cluster -------------------------------------------------------------


@frozen
class Part:
    """One host's part of a batch.

    :param encoded: each job in its canonical form.
    """

    jobs: tuple[Job, ...]
    encoded: tuple[bytes, ...]

    @property
    def size(self) -> int:
        """How many bytes the jobs are."""
        return sum(map(len, self.encoded))


class IPrepared(Protocol):
    """A part that a host has looked at and could take."""

    def submit(self) -> Deferred[list[JobStatus]]:
        """Have the host take it; see ``IHostLink.submit``."""

    def drop(self) -> None:
        """Have the host forget it."""


class IHostLink(Protocol):
    """The leader's way to one host."""

    def submit(self, part: Part, term: int) -> Deferred[list[JobStatus]]:
        """Hand over jobs. Fires when the host has them on disk, with where each of them is;
        fails like ``IAgent.accept``.
        """

    def prepare(self, part: Part, term: int) -> Deferred[IPrepared]:
        """Ask whether the host could take these jobs, which changes nothing. Fires when it could;
        fails like ``IAgent.accept``.
        """


class ICluster(Interface):
    """The cluster, as its present leader knows it.

    Everything raises or fails with ``NoLeader`` when nobody leads.
    """

    events: Any = Attribute("IFeed[HostEvent]; the key is the host's ID")

    def hosts() -> Sequence[Host]:
        """All hosts with their jobs."""

    def complete() -> bool:
        """Whether every host that is known of has reported."""

    def submit(batch: Mapping[str, Sequence[Job]]) -> Deferred[list[Placement]]:
        """Commit jobs to hosts, all or none. Fires when every host concerned has its jobs on disk.

        :raises InvalidField: when a host can't honour a job; the path begins ``HOST[INDEX].``.
        :raises UnknownHost: when there is no such host.
        :raises JobConflict: when an ID is taken by other content or on another host.
        :raises NotReady: when a host can't take jobs now.
        :raises TookTooLong: when a host did not acknowledge in time.
        """

    def leader() -> Mapping[str, Any]:
        """Who leads: ``id``, ``addr``, ``term``, ``since``."""


class IClusterHosts(Interface):
    """The leader, as hosts see it that join the cluster, and those who ask for a single one.

    Everything raises ``NoLeader`` when nobody leads here.
    """

    def host(host_id: str) -> Host:
        """One host.

        :raises UnknownHost: when there is no such host.
        """

    def remove_job(host_id: str, job_id: str) -> None:
        """Take a job out of what is known of the cluster, if it is there; it is not stopped."""

    def open_session(transport: ISessionTransport) -> ISessionUser:
        """A host has connected. What is returned takes all it says."""

    def register(host: Host, jobs: Callable[[Sequence[Job]], None]) -> Callable[[], None]:
        """Take in a host that says nothing more once it said what it is and has.

        :param jobs: called with jobs for it, which count as accepted when that returns.
        :return: to be called when the host has gone.
        :raises InvalidField: when it is no host.
        :raises DuplicateHost: when a host of that ID is there.
        """


class ILeaderRecord(Protocol):
    """A host that leads, as is written for all hosts."""

    @property
    def id(self) -> str:
        """Its ID."""

    @property
    def addr(self) -> str:
        """Where its HTTP API is reached, as ``HOST:PORT``."""

    @property
    def term(self) -> int:
        """Its term."""

    @property
    def since(self) -> str:
        """When it was elected, as RFC 3339 text; may be empty."""


@frozen
class Following:
    """What a host knows of whoever leads, itself or another.

    :param leader: gives the record of who leads, as far as this host knows; None when nobody does.
    :param joined_term: gives the term of the leader that has let this host in, while their session
        goes on; 0 for none.
    :param listen: has somebody called with each new record, or None, from then on.
    """

    leader: Callable[[], ILeaderRecord | None]
    joined_term: Callable[[], int]
    listen: Callable[[Callable[[ILeaderRecord | None], None]], None]


class ILeadership(Protocol):
    """Is told by an election whether this host leads."""

    def elected(self, term: int) -> None:
        """This host leads from now on, with this term."""

    def deposed(self) -> Deferred[None]:
        """This host leads no longer. Fires when nothing of its leadership runs any more."""


# --- sessions between a host and its leader ----------------------------------


class ISessionTransport(Protocol):
    """The way to the other side: whole messages, in order, each at most once."""

    @property
    def full(self) -> bool:
        """Whether the other side does not take more for now; ``resumed`` is told when it does."""

    def send(self, message: bytes) -> None:
        """Send a message. What can't be sent at once is kept, also when it is ``full``."""

    def close(self) -> None:
        """End the connection soon, after what was sent. ``lost`` is told when it has ended."""


class ISessionUser(Protocol):
    """One end of a session. Everything is told after the transport was handed over."""

    def received(self, message: bytes) -> None:
        """The other side has sent this."""

    def resumed(self) -> None:
        """The other side takes more again."""

    def lost(self, reason: str) -> None:
        """The connection has ended, told once. Nothing comes after it."""


class ISessionConnector(Protocol):
    """Makes connections to leaders."""

    def connect(
        self, addr: str, begin: Callable[[ISessionTransport], ISessionUser]
    ) -> Deferred[ISessionTransport]:
        """Connect. Fires when there is a connection, within a deadline. Cancelling ends it.

        :param addr: where the leader's HTTP API is, as ``HOST:PORT``.
        :param begin: makes what takes all the leader says.
        :raises NotReady: when there is none to be had.
        """


JobFeed = IFeed[JobEvent]
HostFeed = IFeed[HostEvent]


# --- etcd ---


class IKeyListener(Protocol):
    """Hears of changes to keys. Nothing is told any more after ``watch_ended``."""

    def watch_connected(self, revision: int) -> None:
        """Changes are told (again), from where it was left.

        :param revision: of the store at the time: what came before it may still be on its way.
        """

    def watch_lost(self, reason: str) -> None:
        """No changes are told for now; the watch goes on trying by itself."""

    def keys_changed(self, revision: int, events: Sequence[KeyEvent]) -> None:
        """Some keys changed, told in order. All of what happened up to ``revision`` is told now.

        :param events: none, if this is but a sign of life.
        """

    def watch_ended(self, error: FlynnHostError) -> None:
        """Changes will not be told any more.

        :param error: ``Compacted`` if some were missed: list the keys, and watch anew from
            there. Else ``PermissionDenied`` or ``EtcdRefused``.
        """


class IKeyWatch(Protocol):
    """A running watch of keys."""

    def stop(self) -> Deferred[None]:
        """End the watch; nothing is told any more. Fires when its connection is gone; never fails."""


class IEtcd(Interface):
    """A client of an etcd cluster.

    Every Deferred has a deadline and fails with ``EtcdUnavailable`` when no member gave an answer
    in time; with ``PermissionDenied`` or ``EtcdRefused`` when there was one and it was no.
    What fails so, or is cancelled, may have been done all the same. A request may be
    made more than once, at one member after another: a condition that does not hold may be due
    to the very same transaction, done before.
    """

    def get(what: Get | KeyRange | bytes) -> Deferred[Found]:
        """Fires with what was read.

        :raises Compacted: when the revision asked for is forgotten.
        """

    def put(key: bytes, value: bytes, lease: int = 0, *, previous: bool = False) -> Deferred[Stored]:
        """Give a key a value; see ``Put``. Fires when it is stored.

        :raises LeaseLost: when there is no such lease.
        """

    def delete(keys: KeyRange | bytes, *, previous: bool = False) -> Deferred[Removed]:
        """Remove keys. Fires when they are not there, also if they never were."""

    def txn(
        compares: Sequence[Compare],
        success: Sequence[Get | Put | Delete] = (),
        failure: Sequence[Get | Put | Delete] = (),
    ) -> Deferred[TxnResult]:
        """Do ``success`` if all conditions hold and ``failure`` if one does not, all at once. Fires
        with what was done; that a condition did not hold is no failure of the Deferred. One that
        only asks, without operations, is agreed upon by etcd like any other.

        :raises LeaseLost: when there is no such lease as one that is put.
        """

    def grant(ttl: int) -> Deferred[Grant]:
        """Make a lease that lasts ``ttl`` seconds, or somewhat more. Fires with it."""

    def keep_alive_once(lease: int, within: float) -> Deferred[int]:
        """Let a lease last its whole time again, from now on. Waits behind nothing else. Fires
        with that time in seconds.

        :param within: seconds until the Deferred fails with ``EtcdUnavailable``.
        :raises LeaseLost: when there is no such lease.
        """

    def revoke(lease: int) -> Deferred[None]:
        """End a lease, which removes its keys. Fires also when there is no such lease."""

    def time_to_live(lease: int, *, keys: bool = False) -> Deferred[LeaseState]:
        """Fires with what is left of a lease.

        :param keys: whether to tell its keys.
        :raises LeaseLost: when there is no such lease.
        """

    def watch(keys: KeyRange | bytes, from_revision: int, listener: IKeyListener) -> IKeyWatch:
        """Begin to tell of changes to these keys, each one once and in order, through any loss of
        connections and members, until it is stopped or can't be gone on with.

        :param from_revision: the first one to be told; 0 for those to come.
        """

    def status() -> Deferred[EtcdStatus]:
        """Fires with what the member that is asked says of itself, leader or not."""

    def members() -> Deferred[tuple[EtcdMember, ...]]:
        """Fires with the members of the etcd cluster."""

    def close() -> Deferred[None]:
        """End all calls and watches. Fires when no connection is left; never fails."""
