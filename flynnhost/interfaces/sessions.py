"""Sessions between a host and its leader."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred


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
