"""A feed: events in order, with the last ones kept for readers that come back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from attrs import define, field
from twisted.logger import Logger

from flynnhost.errors import ResyncNeeded

T = TypeVar("T")


@define(eq=False)
class _Subscription(Generic[T]):
    listener: Callable[[str, T], None]
    _key: str | None
    _listeners: dict[str | None, dict[_Subscription[T], None]]
    ended: Callable[[], None] | None
    cancelled: bool = field(init=False, default=False)

    def cancel(self) -> None:
        self.cancelled = True
        of_key = self._listeners.get(self._key, {})
        of_key.pop(self, None)
        if not of_key:
            self._listeners.pop(self._key, None)


@define(eq=False)
class Feed(Generic[T]):
    """Events, each with an ID of the form ``EPOCH-NUMBER``, told to listeners as they are published.

    A listener is called at once and must not block; one that raises is logged and goes on
    being called, so it can harm no other.

    :param epoch: what tells this run's IDs from another's.
    :param kept: how many events are kept to be asked for again.
    """

    log = Logger()

    _epoch: str
    _kept: int = 10_000
    _number: int = 0
    _ring: deque[tuple[int, str, T]] = field(init=False)
    _listeners: dict[str | None, dict[_Subscription[T], None]] = field(init=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        self._ring = deque(maxlen=self._kept)

    @property
    def last_id(self) -> str:
        """The ID of the newest event."""
        return self._id(self._number)

    def publish(self, key: str, event: T) -> None:
        """Tell everyone who listens to ``key``, or to everything."""
        self._number += 1
        self._ring.append((self._number, key, event))
        event_id = self._id(self._number)
        for wanted in (None, key):
            for subscription in list(self._listeners.get(wanted, ())):
                if subscription in self._listeners.get(wanted, ()):
                    self._tell(subscription, event_id, event)

    def subscribe(
        self,
        listener: Callable[[str, T], None],
        *,
        key: str | None = None,
        after: str | None = None,
        ended: Callable[[], None] | None = None,
    ) -> _Subscription[T]:
        """See ``IFeed.subscribe``."""
        missed = [] if after is None else self._after(after, key)
        subscription = _Subscription(listener, key, self._listeners, ended)
        for event_id, event in missed:
            self._tell(subscription, event_id, event)
        if not subscription.cancelled:
            self._listeners.setdefault(key, {})[subscription] = None
        return subscription

    def close(self) -> None:
        """Tell everyone who listens that nothing more will come, which must be so."""
        subscriptions = [each for of_key in self._listeners.values() for each in of_key]
        for subscription in subscriptions:
            if not subscription.cancelled:
                subscription.cancel()
                self._tell_end(subscription)

    def _tell_end(self, subscription: _Subscription[T]) -> None:
        try:
            if subscription.ended is not None:
                subscription.ended()
        except Exception:
            self.log.failure("A listener of the feed failed at its end")

    def _id(self, number: int) -> str:
        return f"{self._epoch}-{number}"

    def _after(self, event_id: str, key: str | None) -> list[tuple[str, T]]:
        epoch, _, number = event_id.rpartition("-")
        # No number of ours is longer, and Python refuses to read very long ones.
        if epoch != self._epoch or not number.isdecimal() or len(number) > 20:
            raise ResyncNeeded(event_id)
        seen = int(number)
        oldest = self._ring[0][0] if self._ring else self._number + 1
        if not oldest - 1 <= seen <= self._number:
            raise ResyncNeeded(event_id)
        return [(self._id(n), event) for n, k, event in self._ring if n > seen and key in (None, k)]

    def _tell(self, subscription: _Subscription[T], event_id: str, event: T) -> None:
        try:
            subscription.listener(event_id, event)
        except Exception:
            self.log.failure("A listener of the feed failed at {event_id}", event_id=event_id)
