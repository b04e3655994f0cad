"""The events of an engine that exists in memory only."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

from flynnhost.interfaces import IContainerListener
from flynnhost.testing.container_process import FakeContainer


@define(eq=False)
class FakeWatch:
    """An ``IWatch`` of an engine in memory."""

    labels: Mapping[str, str]
    listener: IContainerListener
    _leave: Callable[[FakeWatch], None]
    connected: bool | None = None
    stopped: bool = False

    def stop(self) -> Deferred[None]:
        """See ``IWatch``."""
        if not self.stopped:
            self.stopped = True
            self._leave(self)
        return succeed(None)

    def arrived(self) -> None:
        """The engine answers."""
        if not self.stopped and not self.connected:
            self.connected = True
            self.listener.engine_connected()

    def lost(self, reason: str) -> None:
        """The engine answers no more."""
        was_connected, self.connected = self.connected, False
        if not self.stopped and was_connected is not False:
            self.listener.engine_lost(reason)

    def changed(self, container: FakeContainer, action: str) -> None:
        """Something happened to a container."""
        if self.connected and not self.stopped and container.has_labels(self.labels):
            self.listener.container_changed(container.id, action, container.spec.labels)


@define(eq=False)
class FakeEvents:
    """Tells watches of events in their order, at once or later.

    :param flowing: whether the engine answers; None if it hangs.
    """

    _clock: IReactorTime
    _delays: Mapping[str, float]
    flowing: bool | None = True
    drop: bool = False
    _watches: list[FakeWatch] = field(init=False, factory=list)
    _untold: deque[tuple[FakeContainer, str]] = field(init=False, factory=deque)

    def watch(self, labels: Mapping[str, str], listener: IContainerListener) -> FakeWatch:
        """A new watch, which is connected a little later."""
        watch = FakeWatch(dict(labels), listener, self._watches.remove)
        self._watches.append(watch)
        self._connect_later(watch)
        return watch

    def emit(self, container: FakeContainer, action: str, *, at_once: bool) -> None:
        """Something happened to a container."""
        if self.drop or self.flowing is False:
            return
        self._untold.append((container, action))
        delay = self._delays.get("event", 0.0)
        if delay or not at_once:
            self._clock.callLater(delay, self._tell_next)
        else:
            self.tell_all()

    def tell_all(self) -> None:
        """Tell at once whatever was not told yet."""
        while self._untold and self.flowing:
            self._tell_next()

    def interrupt(self, reason: str) -> None:
        """Interrupt all watches, and connect them again if the engine answers."""
        self._untold.clear()
        for watch in list(self._watches):
            watch.lost(reason)
            self._connect_later(watch)

    def resume(self) -> None:
        """The engine answers again."""
        self.flowing = True
        self.tell_all()
        for watch in self._watches:
            self._connect_later(watch)

    def stop(self) -> None:
        """End all watches."""
        for watch in list(self._watches):
            watch.stop()

    def _connect_later(self, watch: FakeWatch) -> None:
        self._clock.callLater(self._delays.get("reconnect", 0.0), self._connect, watch)

    def _connect(self, watch: FakeWatch) -> None:
        if self.flowing:
            watch.arrived()
        elif self.flowing is False:
            watch.lost("connection refused")

    def _tell_next(self) -> None:
        if self._untold and self.flowing:
            container, action = self._untold.popleft()
            for watch in list(self._watches):
                watch.changed(container, action)
