"""Docker as ``IContainers``: each kind of call in threads of its own, with a deadline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred, DeferredList, fail
from zope.interface import implementer

from flynnhost.containers.address import EngineAddress
from flynnhost.containers.attach import EngineAttach
from flynnhost.containers.body import OutputFiles, create_body
from flynnhost.containers.calls import EngineCalls
from flynnhost.containers.events import Backoff, EventsWatch
from flynnhost.containers.execs import EngineExecs
from flynnhost.containers.hijack import EngineLines
from flynnhost.containers.lanes import EngineReactor, Lane
from flynnhost.containers.logs import EngineLogs
from flynnhost.containers.pulls import EnginePulls
from flynnhost.containers.session import EngineSessions
from flynnhost.errors import EngineUnavailable
from flynnhost.interfaces import (
    ContainerSpec,
    ContainerState,
    ContainerSummary,
    EngineFacts,
    ExecSpec,
    IContainerListener,
    IContainers,
    IEntryReceiver,
    IExecution,
    IInput,
    ILogReceiver,
    ILogStream,
    IWatch,
    LogQuery,
)

DEFAULT_URL = "unix:///var/run/docker.sock"

T = TypeVar("T")


@implementer(IContainers)
@define(eq=False)
class DockerClient:
    """A Docker engine at an address. Nothing is asked of it before the first call.

    A timeout is for a call once it has a thread; who waits for the answer waits at most twice
    as long. Each kind of call has its own threads, so that none waits for another kind.

    :param url: ``unix:///PATH`` or ``tcp://HOST:PORT``.
    :param call_threads: how many containers are created or started at the same time.
    :param control_threads: how many requests to inspect, signal or list are made at the same time.
    :param remove_threads: how many containers are removed at the same time.
    :param pull_threads: how many images are pulled at the same time.
    :param waiting: how many calls of one kind may wait for a thread.
    :param call_timeout: for create and start.
    :param control_timeout: for everything else that is answered at once.
    :param ping_timeout: for ping, the wait included.
    :param pull_inactivity: how long nothing may come while an image is pulled.
    :param pull_deadline: how long anyone waits for a pull.
    :param output_patience: how long the engine may be away before output that is being read breaks off.
    :param output: how much of a container's output the engine keeps.
    :param backoff: how long a watch waits before it connects again.
    :param close_within: how long ``close`` and the stop of a watch wait for threads to end, and ``close``,
        half as long, for commands before that.
    """

    _reactor: EngineReactor
    url: str = DEFAULT_URL
    _call_threads: int = 8
    _control_threads: int = 4
    _remove_threads: int = 4
    _pull_threads: int = 4
    _waiting: int = 2000
    _call_timeout: float = 60.0
    _control_timeout: float = 15.0
    _ping_timeout: float = 5.0
    _pull_inactivity: float = 120.0
    _pull_deadline: float = 3600.0
    _output_patience: float = 30.0
    _output: OutputFiles = field(factory=OutputFiles)
    _backoff: Backoff = field(factory=Backoff)
    _close_within: float = 2.0
    _address: EngineAddress = field(init=False)
    _sessions: list[EngineSessions] = field(init=False, factory=list)
    _making: tuple[Lane, EngineCalls] = field(init=False)
    _control: tuple[Lane, EngineCalls] = field(init=False)
    _removing: tuple[Lane, EngineCalls] = field(init=False)
    _pinging: tuple[Lane, EngineCalls] = field(init=False)
    _pulling: Lane = field(init=False)
    _signalling: Lane = field(init=False)
    _pulls: EnginePulls = field(init=False)
    _output_streams: EngineLogs = field(init=False)
    _lines: EngineLines = field(init=False)
    _attach: EngineAttach = field(init=False)
    _execs: EngineExecs = field(init=False)
    _watches: set[EventsWatch] = field(init=False, factory=set)
    _closed: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self._address = EngineAddress.parse(self.url)
        self._making = self._kind("create", self._call_threads, self._call_timeout)
        self._control = self._kind("control", self._control_threads, self._control_timeout)
        self._removing = self._kind("remove", self._remove_threads, self._control_timeout)
        self._pinging = self._kind("ping", 1, self._ping_timeout, self._ping_timeout)
        self._pulling = Lane(self._reactor, "pull", self._pull_threads, self._waiting, self._pull_deadline)
        ping = EngineCalls(self._new_sessions(self._ping_timeout)).thd_ping
        self._pulls = EnginePulls(self._new_sessions(self._pull_inactivity), ping)
        self._output_streams = EngineLogs(
            self._reactor, self._address, self.inspect, self._control_timeout, self._output_patience
        )
        self._lines = EngineLines(self._reactor, self._address, self._control_timeout)
        self._signalling = Lane(self._reactor, "signal", 2, self._waiting, self._control_timeout)
        ask = partial(self._run, self._control)
        self._attach = EngineAttach(self._reactor, self._lines, ask)
        self._execs = EngineExecs(self._reactor, self._lines, ask, self._signalling.run, self._call_timeout)

    def ping(self) -> Deferred[None]:
        """See ``IContainers.ping``."""
        return self._run(self._pinging, EngineCalls.thd_ping)

    def about(self) -> Deferred[EngineFacts]:
        """See ``IContainers.about``."""
        return self._run(self._control, EngineCalls.thd_about)

    def pull(self, image: str, progress: Callable[[str], None]) -> Deferred[None]:
        """See ``IContainers.pull``."""

        def thd_report(text: str) -> None:
            self._reactor.callFromThread(tell, text)

        def tell(text: str) -> None:
            if not pulled.called:
                progress(text)

        pulled = self._pulling.run(self._pulls.thd_pull, image, thd_report)
        return pulled

    def create(self, spec: ContainerSpec) -> Deferred[str]:
        """See ``IContainers.create``."""
        return self._run(self._making, EngineCalls.thd_create, spec.name, create_body(spec, self._output))

    def start(self, container_id: str) -> Deferred[None]:
        """See ``IContainers.start``."""
        return self._run(self._making, EngineCalls.thd_start, container_id)

    def inspect(self, container: str) -> Deferred[ContainerState]:
        """See ``IContainers.inspect``."""
        return self._run(self._control, EngineCalls.thd_inspect, container)

    def kill(self, container_id: str, signal: int) -> Deferred[None]:
        """See ``IContainers.kill``."""
        return self._run(self._control, EngineCalls.thd_kill, container_id, signal)

    def remove(self, container_id: str) -> Deferred[None]:
        """See ``IContainers.remove``."""
        return self._run(self._removing, EngineCalls.thd_remove, container_id)

    def list_containers(self, labels: Mapping[str, str]) -> Deferred[list[ContainerSummary]]:
        """See ``IContainers.list_containers``."""
        return self._run(self._control, EngineCalls.thd_list, dict(labels))

    def logs(
        self, container_id: str, tty: bool, query: LogQuery, receiver: ILogReceiver
    ) -> Deferred[ILogStream]:
        """See ``IContainers.logs``."""
        if self._closed:
            return fail(_closing())
        return self._output_streams.read(container_id, tty, query, receiver)

    def log_entries(
        self, container_id: str, tty: bool, query: LogQuery, receiver: IEntryReceiver
    ) -> Deferred[ILogStream]:
        """See ``IContainers.log_entries``."""
        if self._closed:
            return fail(_closing())
        return self._output_streams.read_entries(container_id, tty, query, receiver)

    def attach_output(self, container_id: str, tty: bool, receiver: ILogReceiver) -> Deferred[ILogStream]:
        """See ``IContainers.attach_output``."""
        return self._attach.output(container_id, tty, receiver)

    def attach_input(self, container_id: str) -> Deferred[IInput]:
        """See ``IContainers.attach_input``."""
        return self._attach.input(container_id)

    def resize(self, container_id: str, height: int, width: int) -> Deferred[None]:
        """See ``IContainers.resize``."""
        return self._run(self._control, EngineCalls.thd_resize, container_id, height, width)

    def exec(self, container_id: str, spec: ExecSpec, receiver: ILogReceiver) -> Deferred[IExecution]:
        """See ``IContainers.exec``."""
        if self._closed:
            return fail(_closing())
        return self._execs.begin(container_id, spec, receiver)

    def watch(self, labels: Mapping[str, str], listener: IContainerListener) -> IWatch:
        """See ``IContainers.watch``.

        :raises EngineUnavailable: after ``close``.
        """
        if self._closed:
            raise _closing()
        watch = EventsWatch(
            self._reactor,
            EngineSessions(self._address, self._control_timeout),
            dict(labels),
            listener,
            self._backoff,
            self._close_within,
            self._watches.discard,
        )
        self._watches.add(watch)
        watch.start()
        return watch

    def close(self) -> Deferred[None]:
        """See ``IContainers.close``. Who still waits for a call gets ``EngineUnavailable``."""
        self._closed = True
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        await self._execs.close(self._close_within / 2)
        self._lines.close()
        lanes = [lane for lane, _ in (self._making, self._control, self._removing, self._pinging)]
        lanes += [self._pulling, self._signalling]
        for lane in lanes:
            lane.close()
        for sessions in self._sessions:
            sessions.abort()
        self._output_streams.close()
        waits = [watch.stop() for watch in list(self._watches)]
        waits += [lane.join(self._close_within) for lane in lanes]
        await DeferredList(waits)

    def _kind(
        self, name: str, threads: int, timeout: float, deadline: float | None = None
    ) -> tuple[Lane, EngineCalls]:
        lane = Lane(self._reactor, name, threads, self._waiting, deadline or 2 * timeout)
        return lane, EngineCalls(self._new_sessions(timeout))

    def _new_sessions(self, timeout: float) -> EngineSessions:
        sessions = EngineSessions(self._address, timeout)
        self._sessions.append(sessions)
        return sessions

    def _run(self, kind: tuple[Lane, EngineCalls], method: Callable[..., T], *args: Any) -> Deferred[T]:
        lane, calls = kind
        return lane.run(method, calls, *args)


def _closing() -> EngineUnavailable:
    return EngineUnavailable("the connection is closed for good")
