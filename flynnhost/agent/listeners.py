"""Those who are told of each change of something."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from attrs import define, field, frozen

from flynnhost.interfaces import ISubscription

T = TypeVar("T")


@define(eq=False)
class Listeners(Generic[T]):
    """Listeners in the order in which they came."""

    _all: dict[_Listening[T], None] = field(init=False, factory=dict)

    def add(self, listener: Callable[[T], None]) -> ISubscription:
        """Have somebody told of each change."""
        listening = _Listening(self._all, listener)
        self._all[listening] = None
        return listening

    def tell(self, value: T) -> None:
        """It is so from now on."""
        for listening in list(self._all):
            listening.listener(value)


@frozen(eq=False)
class _Listening(Generic[T]):
    _all: dict[_Listening[T], None]
    listener: Callable[[T], None]

    def cancel(self) -> None:
        """See ``ISubscription``."""
        self._all.pop(self, None)
