"""Waiting for a state of things, as many as like."""

from __future__ import annotations

from attrs import define, field
from twisted.internet.defer import Deferred


@define(eq=False)
class Gate:
    """Something that is so or not, and for which many may wait. It is shut until ``open``.

    :ivar is_open: whether it is so.
    """

    is_open: bool = field(init=False, default=False)
    _waiters: dict[Deferred[None], None] = field(init=False, factory=dict)

    def wait(self) -> Deferred[None]:
        """A Deferred of your own that fires when the gate is open, at once if it is. Cancelling it
        ends your wait alone.
        """
        waiter: Deferred[None] = Deferred(lambda it: self._waiters.pop(it, None))
        if self.is_open:
            waiter.callback(None)
        else:
            self._waiters[waiter] = None
        return waiter

    def open(self) -> None:
        """It is so: all who wait go on, in the order in which they came."""
        self.is_open = True
        waiters, self._waiters = self._waiters, {}
        for waiter in waiters:
            if not waiter.called:  # one who went on may have ended another's wait
                waiter.callback(None)

    def shut(self) -> None:
        """It is so no longer."""
        self.is_open = False
