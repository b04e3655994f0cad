"""A container engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from attrs import field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer
from zope.interface import Interface

from flynnhost.log_position import LogPosition


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
class EngineFacts:
    """What an engine says of itself, for operators. Empty where it does not say.

    :param root_dir: where it keeps images and containers, on its own machine.
    :param memory_limit: whether it can limit the memory of a container; so with the other limits.
    :param ip_forwarding: whether its machine passes packets on to containers.
    :param live_restore: whether containers outlive it.
    """

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


@frozen
class LogQuery:
    """Which part of a container's output is wanted.

    :param tail: how many lines from the end, of the streams that are wanted; None for all. A line of more
        than 16 KiB counts as one for each 16 KiB.
    :param follow: go on with what is written from now on, until the container ends.
    :param since_ns: from this time on, in nanoseconds since 1970; None from the beginning.
    :param after: from what follows this entry on; then the tail and the time don't matter.
    """

    stdout: bool = True
    stderr: bool = True
    follow: bool = False
    tail: int | None = None
    since_ns: int | None = None
    after: LogPosition | None = None


class LogEntry(NamedTuple):
    """A line of a container's output, or a piece of a line of more than 16 KiB.

    :ivar position: where it is in the output.
    :ivar data: what was written, with the newline, if that was kept: the engine may have lost that of a
        line in pieces.
    """

    position: LogPosition
    data: bytes


class IEntryReceiver(Protocol):
    """Takes a container's output as it comes, entry by entry."""

    def entries_received(self, entries: Sequence[LogEntry]) -> None:
        """Some entries came."""

    def output_ended(self, error: Exception | None) -> None:
        """See ``ILogReceiver.output_ended``."""


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
    """A running transfer of output. It can be paused for as long as one likes.

    What the engine has dropped of the output when it is resumed can't be had any more: then the output
    ends with ``PositionGone``.
    """

    def pauseProducing(self) -> None:
        """Send nothing until ``resumeProducing``."""

    def resumeProducing(self) -> None:
        """Go on after ``pauseProducing``."""

    def stopProducing(self) -> None:
        """End the transfer and free all it holds. ``output_ended`` is not called any more."""


class IInput(IConsumer):
    """The way to a process's standard input. A push producer registered here is paused while the
    engine takes no more. When the way is gone, the producer is let go on, never stopped, and what is
    written is dropped.
    """

    def end() -> None:
        """Nothing more will be written: the process reads the end of its input. A TTY has no such end."""

    def close() -> None:
        """Write nothing more, and free all it holds as soon as the engine has taken what was written, or
        does not take it for seconds. May be called again, also after its end.
        """

    def when_closed() -> Deferred[None]:
        """A Deferred of your own that fires when the connection is gone, whoever ended it; never fails."""


@frozen
class ExecSpec:
    """A command to be run in a running container. Empty values leave the matter to the container.

    :param height: lines of the TTY, if known; 0 if not, like the columns in ``width``.
    """

    cmd: tuple[str, ...]
    env: Mapping[str, str] = field(factory=dict)
    tty: bool = False
    stdin: bool = False
    user: str = ""
    working_dir: str = ""
    height: int = 0
    width: int = 0


class IExecution(IInput):
    """A command that runs in a container. What it writes goes to a receiver, as of an ``ILogStream``."""

    def pauseProducing() -> None:
        """See ``ILogStream``."""

    def resumeProducing() -> None:
        """See ``ILogStream``."""

    def close() -> None:
        """End the command if it runs (SIGHUP, then SIGKILL), and free all it holds. The receiver hears
        nothing more. May be called again.
        """

    def when_closed() -> Deferred[None]:
        """A Deferred of your own that fires when the connection is gone and, after ``close``, the command
        too, or all that could be done to end it; never fails.
        """

    def resize(height: int, width: int) -> Deferred[None]:
        """Set the size of its TTY, in characters. Fires when that is done, or the command has ended."""

    def signal(number: int) -> Deferred[None]:
        """Send it a signal. Fires when it was sent.

        :raises ContainerNotRunning: when the command has ended.
        :raises EngineRefused: when its process can't be reached from here.
        """

    def exit_status() -> Deferred[int]:
        """A Deferred of your own that fires with its exit status when it has ended and all it wrote was
        passed on; fails with ``EngineUnavailable`` when that can't be found out, or after ``close``.
        """


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

    def about() -> Deferred[EngineFacts]:
        """Fires with what the engine says of itself."""

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
        :raises PositionGone: when what comes after the query's position is not kept any more.
        """

    def log_entries(
        container_id: str, tty: bool, query: LogQuery, receiver: IEntryReceiver
    ) -> Deferred[ILogStream]:
        """The same as ``logs``, entry by entry, each with its position."""

    def attach_output(container_id: str, tty: bool, receiver: ILogReceiver) -> Deferred[ILogStream]:
        """Begin to pass on what a container writes from now on; of one that has not started yet,
        everything. Fires when the engine has agreed, before the first output.

        The container waits when the stream is paused for long: only the engine's own buffers lie between.
        ``output_ended`` gets no error also when the connection broke, which looks the same from here.

        :param tty: whether the container was made with a TTY.
        :raises NoSuchContainer: when it is not there.
        :raises ContainerNotRunning: when it has ended.
        """

    def attach_input(container_id: str) -> Deferred[IInput]:
        """Open a container's standard input; before its start too. Fires when the engine has agreed.

        With a TTY it can be opened again and again; else the process reads the end when it is closed.

        :raises NoSuchContainer: when it is not there.
        :raises ContainerNotRunning: when it has ended.
        """

    def resize(container_id: str, height: int, width: int) -> Deferred[None]:
        """Set the size of a container's TTY, in characters. Fires when that is done.

        :raises NoSuchContainer: when it is not there.
        :raises ContainerNotRunning: when it has ended or not started.
        """

    def exec(container_id: str, spec: ExecSpec, receiver: ILogReceiver) -> Deferred[IExecution]:
        """Run a command in a running container. Fires when it has begun, before the first output.

        Who cancels the wait has the command ended.

        :raises NoSuchContainer: when it is not there.
        :raises ContainerNotRunning: when it does not run.
        :raises EngineRefused: when the command can't be run; the error has the engine's words.
        """

    def watch(labels: Mapping[str, str], listener: IContainerListener) -> IWatch:
        """Begin to tell of the containers with these labels, until the watch is stopped,
        through any loss of the engine.
        """

    def close() -> Deferred[None]:
        """Free everything. Fires within seconds even when the engine hangs; never fails."""
