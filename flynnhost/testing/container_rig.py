# ruff: noqa: S101 - these are tests
"""What the contract of container engines needs of whoever runs it."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import attrs
from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from flynnhost.interfaces import ContainerSpec, ContainerState, ExecSpec, ILogStream, LogEntry, LogQuery
from flynnhost.testing.container_process import Program

C = TypeVar("C")
RigT = TypeVar("RigT", bound="ContainersRig")

_BETWEEN_LOOKS = 0.02


class ContainersRig(ABC):
    """An engine under test, with the means to say what processes do.

    :ivar containers: the ``IContainers``.
    :ivar clock: its clock.
    :ivar labels: what all containers of the test have, and no others.
    :ivar image: an image that is there.
    """

    containers: Any
    clock: IReactorTime
    labels: Mapping[str, str]
    image: str
    _names = 0

    @abstractmethod
    def run(self, test: Coroutine[Any, Any, None]) -> Deferred[None] | None:
        """Run a test to its end, or give pytest-twisted what fires then."""

    @abstractmethod
    def behaving(self, spec: ContainerSpec, program: Program) -> ContainerSpec:
        """The spec, changed so that its process does what the program says."""

    @abstractmethod
    def commanding(self, command: ExecSpec, program: Program) -> ExecSpec:
        """The command, changed so that its process does what the program says."""

    @abstractmethod
    async def commands_left(self, container_id: str) -> int:
        """How many processes a running container has beside its own and what that has begun."""

    @abstractmethod
    def pullable(self) -> str:
        """An image that is not there but can be pulled."""

    @abstractmethod
    def not_pullable(self) -> str:
        """An image that can't be pulled."""

    def spec(self, program: Program | None = None, **fields: Any) -> ContainerSpec:
        """A container that is not there yet, with the labels of the test."""
        self._names += 1
        name = f"{next(iter(self.labels.values()))}-{self._names}"
        spec = ContainerSpec(name=name, image=self.image, labels=self.labels)
        return self.behaving(attrs.evolve(spec, **fields), program or Program())

    def command(self, program: Program | None = None, **fields: Any) -> ExecSpec:
        """A command to be run in a container."""
        self._names += 1
        return self.commanding(ExecSpec((f"command-{self._names}",), **fields), program or Program())

    async def started(self, program: Program | None = None, **fields: Any) -> str:
        """The ID of a container that was started."""
        container_id: str = await self.containers.create(self.spec(program, **fields))
        await self.containers.start(container_id)
        return container_id

    async def ended(self, container_id: str) -> ContainerState:
        """The state of a container after the end of its process."""
        while True:
            state: ContainerState = await self.containers.inspect(container_id)
            if not state.running:
                return state
            await deferLater(self.clock, _BETWEEN_LOOKS)

    async def until(self, condition: Callable[[], object], within: float = 20.0) -> None:
        """Wait for something that happens by itself."""
        deadline = self.clock.seconds() + within
        while not condition():
            assert self.clock.seconds() < deadline, "waited in vain"
            await deferLater(self.clock, _BETWEEN_LOOKS)

    async def until_it(
        self, condition: Callable[[], Awaitable[object]], wanted: object, within: float = 20.0
    ) -> None:
        """Like ``until``, for what has to be asked for."""
        deadline = self.clock.seconds() + within
        while await condition() != wanted:
            assert self.clock.seconds() < deadline, "waited in vain"
            await deferLater(self.clock, _BETWEEN_LOOKS)

    async def pass_time(self, seconds: float) -> None:
        """Wait for nothing in particular."""
        await deferLater(self.clock, seconds)


class EngineRig(ContainersRig):
    """A rig whose engine may be taken away; its calls have deadlines of a few seconds."""

    @abstractmethod
    def go_down(self) -> None:
        """Take the engine away."""

    @abstractmethod
    def hang(self) -> None:
        """Let the engine hang."""

    @abstractmethod
    def come_back(self) -> None:
        """Bring the engine back."""


def contract(
    test: Callable[[C, RigT], Coroutine[Any, Any, None]],
) -> Callable[[C, RigT], Deferred[None] | None]:
    """Make a test that the rig runs of one that is a coroutine."""

    @functools.wraps(test)
    def run(self: C, rig: RigT) -> Deferred[None] | None:
        return rig.run(test(self, rig))

    return run


@define(eq=False)
class OutputRecorder:
    """An ``ILogReceiver`` and ``IEntryReceiver`` that remembers.

    :ivar pause_at_first: pause the stream as soon as something comes.
    """

    pieces: list[tuple[int, bytes]] = field(factory=list)
    entries: list[LogEntry] = field(factory=list)
    ended: bool = False
    error: Exception | None = None
    stream: ILogStream | None = None
    pause_at_first: bool = False

    def output_received(self, stream: int, data: bytes) -> None:
        """See ``ILogReceiver``."""
        assert not self.ended, "output after its end"
        self.pieces.append((stream, data))
        if self.pause_at_first and self.stream is not None:
            self.pause_at_first = False
            self.stream.pauseProducing()

    def output_ended(self, error: Exception | None) -> None:
        """See ``ILogReceiver``."""
        assert not self.ended, "the output ended twice"
        self.ended, self.error = True, error

    def of(self, stream: int) -> bytes:
        """All that came on one stream."""
        return b"".join(data for number, data in self.pieces if number == stream)

    def entries_received(self, entries: Sequence[LogEntry]) -> None:
        """See ``IEntryReceiver``."""
        assert not self.ended, "output after its end"
        self.entries += entries

    async def read_entries(
        self, rig: ContainersRig, container_id: str, query: LogQuery, tty: bool = False
    ) -> None:
        """Listen to the entries to the end."""
        self.stream = await rig.containers.log_entries(container_id, tty, query, self)
        await rig.until(lambda: self.ended)

    async def follow(self, rig: ContainersRig, container_id: str, query: LogQuery, tty: bool = False) -> None:
        """Begin to listen."""
        self.stream = await rig.containers.logs(container_id, tty, query, self)

    async def attach(self, rig: ContainersRig, container_id: str, tty: bool = False) -> None:
        """Begin to listen to what is written from now on."""
        self.stream = await rig.containers.attach_output(container_id, tty, self)

    async def read(self, rig: ContainersRig, container_id: str, query: LogQuery, tty: bool = False) -> None:
        """Listen to the end."""
        await self.follow(rig, container_id, query, tty)
        await rig.until(lambda: self.ended)


@define(eq=False)
class EventRecorder:
    """An ``IContainerListener`` that remembers everything in order."""

    heard: list[tuple[str, ...]] = field(factory=list)
    labels: list[Mapping[str, str]] = field(factory=list)

    def engine_connected(self) -> None:
        """See ``IContainerListener``."""
        self.heard.append(("connected",))

    def engine_lost(self, reason: str) -> None:
        """See ``IContainerListener``."""
        assert reason, "nobody knows why"
        self.heard.append(("lost",))

    def container_changed(self, container_id: str, action: str, labels: Mapping[str, str]) -> None:
        """See ``IContainerListener``."""
        self.heard.append((container_id, action))
        self.labels.append(labels)

    @property
    def engine(self) -> list[str]:
        """What was heard of the engine."""
        return [each[0] for each in self.heard if len(each) == 1]

    def actions(self, container_id: str) -> list[str]:
        """What was heard of one container."""
        return [each[1] for each in self.heard if len(each) == 2 and each[0] == container_id]
