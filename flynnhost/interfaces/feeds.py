"""Numbered events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from flynnhost.model import HostEvent, JobEvent


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


JobFeed = IFeed[JobEvent]
HostFeed = IFeed[HostEvent]
