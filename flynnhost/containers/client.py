"""Docker as ``IContainers``: each kind of call in threads of its own, with a deadline."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import define, field
from twisted.internet.defer import Deferred, DeferredList
from zope.interface import implementer

from flynnhost.containers.address import EngineAddress
from flynnhost.containers.body import OutputFiles, create_body
from flynnhost.containers.calls import EngineCalls
from flynnhost.containers.events import Backoff, EventsWatch
from flynnhost.containers.lanes import EngineReactor, Lane
from flynnhost.containers.session import EngineSessions
from flynnhost.interfaces import (
    ContainerSpec,
    ContainerState,
    ContainerSummary,
    IContainerListener,
    IContainers,
    IWatch,
)

DEFAULT_URL = "unix:///var/run/docker.sock"


@implementer(IContainers)
@define(eq=False)
class DockerClient:
    """A Docker engine at an address. Nothing is asked of it before the first call.

    The deadlines are for each call, from the request to the answer; a caller waits at most twice
    as long, because calls queue for threads.

    :param url: ``unix:///PATH`` or ``tcp://HOST:PORT``.
    :param call_threads: how many containers are created or started at the same time.
    :param waiting: how many calls of one kind may wait for a thread.
    :param call_timeout: the deadline for create and start.
    :param control_timeout: the deadline for everything else that is answered at once.
    :param close_within: how long ``close`` and the stop of a watch wait for threads to end.
    """

    _reactor: EngineReactor
    url: str = DEFAULT_URL
    _call_threads: int = 8
    _control_threads: int = 4
    _waiting: int = 2000
    _call_timeout: float = 60.0
    _control_timeout: float = 15.0
    _ping_timeout: float = 5.0
    _close_within: float = 2.0
    _output: OutputFiles = field(factory=OutputFiles)
    _backoff: Backoff = field(factory=Backoff)
    _address: EngineAddress = field(init=False)
    _making: EngineCalls = field(init=False)
    _control: EngineCalls = field(init=False)
    _pinging: EngineCalls = field(init=False)
    _lanes: dict[str, Lane] = field(init=False)
    _watches: list[EventsWatch] = field(init=False, factory=list)
    _closed: bool = field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        self._address = EngineAddress.parse(self.url)
        self._making = self._calls(self._call_timeout)
        self._control = self._calls(self._control_timeout)
        self._pinging = self._calls(self._ping_timeout)
        self._lanes = {
            "calls": self._lane("calls", self._call_threads, 2 * self._call_timeout),
            "control": self._lane("control", self._control_threads, 2 * self._control_timeout),
            "ping": self._lane("ping", 1, self._ping_timeout),
        }

    def ping(self) -> Deferred[None]:
        """See ``IContainers.ping``."""
        return self._lanes["ping"].run(self._pinging.thd_ping)

    def create(self, spec: ContainerSpec) -> Deferred[str]:
        """See ``IContainers.create``."""
        return self._lanes["calls"].run(self._making.thd_create, spec.name, create_body(spec, self._output))

    def start(self, container_id: str) -> Deferred[None]:
        """See ``IContainers.start``."""
        return self._lanes["calls"].run(self._making.thd_start, container_id)

    def inspect(self, container: str) -> Deferred[ContainerState]:
        """See ``IContainers.inspect``."""
        return self._lanes["control"].run(self._control.thd_inspect, container)

    def kill(self, container_id: str, signal: int) -> Deferred[None]:
        """See ``IContainers.kill``."""
        return self._lanes["control"].run(self._control.thd_kill, container_id, signal)

    def remove(self, container_id: str) -> Deferred[None]:
        """See ``IContainers.remove``."""
        return self._lanes["control"].run(self._control.thd_remove, container_id)

    def list_containers(self, labels: Mapping[str, str]) -> Deferred[list[ContainerSummary]]:
        """See ``IContainers.list_containers``."""
        return self._lanes["control"].run(self._control.thd_list, dict(labels))

    def watch(self, labels: Mapping[str, str], listener: IContainerListener) -> IWatch:
        """See ``IContainers.watch``."""
        sessions = EngineSessions(self._address, self._control_timeout)
        watch = EventsWatch(
            self._reactor, sessions, dict(labels), listener, self._backoff, self._close_within
        )
        self._watches.append(watch)
        watch.start()
        return watch

    def close(self) -> Deferred[None]:
        """See ``IContainers.close``."""
        for lane in self._lanes.values():
            lane.close()
        for calls in (self._making, self._control, self._pinging):
            calls.sessions.abort()
        waits = [lane.join(self._close_within) for lane in self._lanes.values()]
        waits += [watch.stop() for watch in self._watches]
        return DeferredList(waits).addCallback(lambda _results: None)

    def _calls(self, timeout: float) -> EngineCalls:
        return EngineCalls(EngineSessions(self._address, timeout))

    def _lane(self, name: str, threads: int, deadline: float) -> Lane:
        return Lane(self._reactor, name, threads, self._waiting, deadline)
