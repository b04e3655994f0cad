# ruff: noqa: S101 - these are tests
"""What the contracts of clients of etcd need of an etcd."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from flynnhost.errors import (
    FlynnHostError,
)
from flynnhost.keyvalues import (
    KeyEvent,
    KeyRange,
)

C = TypeVar("C")
R = TypeVar("R", bound="EtcdRig")


class EtcdRig(ABC):
    """An etcd to try clients on."""

    clock: IReactorTime
    prefix: bytes
    """All keys of this test begin so."""

    @abstractmethod
    def run(self, test: Coroutine[Any, Any, None]) -> Deferred[None] | None:
        """Run a test to its end, or give pytest-twisted what fires then."""

    @abstractmethod
    def client(self, **options: Any) -> Any:
        """A new ``IEtcd``, which the rig closes; options are ``timeout`` and ``silence``."""

    @abstractmethod
    async def compact(self, revision: int) -> None:
        """Forget what was before a revision."""

    @property
    def keys(self) -> KeyRange:
        """All keys of this test."""
        return KeyRange.prefix(self.prefix)

    def key(self, name: bytes | str) -> bytes:
        """A key of this test."""
        return self.prefix + (name.encode() if isinstance(name, str) else name)

    async def until(self, condition: Callable[[], object], what: str, within: float = 30.0) -> None:
        """Wait until the condition gives something true."""
        deadline = self.clock.seconds() + within
        while not condition():
            assert self.clock.seconds() < deadline, f"waited {within:g} s in vain for {what}"
            await deferLater(self.clock, 0.02)

    async def until_it(
        self, condition: Callable[[], Awaitable[object]], what: str, within: float = 30.0
    ) -> None:
        """Like ``until``, for a condition that has to be asked for."""
        deadline = self.clock.seconds() + within
        while not await condition():
            assert self.clock.seconds() < deadline, f"waited {within:g} s in vain for {what}"
            await deferLater(self.clock, 0.02)

    async def pause(self, seconds: float) -> None:
        """Let time go by."""
        await deferLater(self.clock, seconds)

    def watch(self, client: Any, from_revision: int = 0, keys: KeyRange | bytes | None = None) -> Recorder:
        """Begin to watch, by default all keys of this test."""
        recorder = Recorder()
        recorder.watch = client.watch(self.keys if keys is None else keys, from_revision, recorder)
        return recorder

    async def watching(self, client: Any, from_revision: int = 0, keys: Any = None) -> Recorder:
        """Begin to watch, and wait until etcd does."""
        recorder = self.watch(client, from_revision, keys)
        await self.until(lambda: recorder.connected, "the watch")
        return recorder


class LossRig(EtcdRig):
    """An etcd that can be lost."""

    @abstractmethod
    def go_down(self) -> None:
        """End it, as a crash would."""

    @abstractmethod
    def hang(self) -> None:
        """Let it keep its connections and do nothing."""

    @abstractmethod
    async def come_back(self) -> None:
        """End what was begun before."""


@define(eq=False)
class Recorder:
    """Hears of changes, and keeps what it heard."""

    events: list[KeyEvent] = field(factory=list)
    told: list[str] = field(factory=list)
    revision: int = 0
    signs_of_life: int = 0
    error: FlynnHostError | None = None
    watch: Any = None
    on_events: Callable[[], object] = lambda: None
    on_lost: Callable[[str], object] = lambda _reason: None

    def watch_connected(self, revision: int) -> None:
        """See ``IKeyListener``."""
        self.told.append("connected")
        self.revision = max(revision, self.revision)

    def watch_lost(self, reason: str) -> None:
        """See ``IKeyListener``."""
        assert reason
        self.told.append("lost")
        self.on_lost(reason)

    def keys_changed(self, revision: int, events: Sequence[KeyEvent]) -> None:
        """See ``IKeyListener``; asserts that the watch has not ended."""
        assert "ended" not in self.told
        self.events += events
        self.revision = max(revision, self.revision)
        self.signs_of_life += not events
        if events:
            self.on_events()

    def watch_ended(self, error: FlynnHostError) -> None:
        """See ``IKeyListener``."""
        self.error = error
        self.told.append("ended")

    @property
    def connected(self) -> bool:
        """Whether it is watching now."""
        return bool(self.told) and self.told[-1] == "connected"

    @property
    def values(self) -> list[bytes | None]:
        """The values told, None for a removal."""
        return [None if event.removed else event.kv.value for event in self.events]


def contract(
    test: Callable[[C, R], Coroutine[Any, Any, None]],
) -> Callable[[C, R], Deferred[None] | None]:
    """Make a test that the rig runs of one that is a coroutine."""

    @functools.wraps(test)
    def run(self: C, rig: R) -> Deferred[None] | None:
        return rig.run(test(self, rig))

    return run


async def failure(call: Awaitable[object], kind: type[FlynnHostError]) -> Any:
    """Check that the call fails so, and give the error."""
    try:
        await call
    except kind as e:
        assert str(e)
        return e
    raise AssertionError(f"it did not fail with {kind.__name__}")
