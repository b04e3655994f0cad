"""Ends a host between any two of its steps, at the seams to its engine and its disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from attrs import define, field
from twisted.internet.defer import Deferred

from flynnhost.interfaces import IContainerListener, IContainers, IJournal

_CONTAINER_STEPS = frozenset({"create", "start", "inspect", "kill", "remove", "pull", "list_containers"})
"""The calls of ``IContainers`` that are steps of a job's life."""

_JOURNAL_STEPS = frozenset({"write", "forget", "keep_draining", "keep_attribute", "forget_attribute"})
"""The calls of ``IJournal`` that are steps of a job's life."""


@define(eq=False)
class Steps:
    """Counts steps, and ends the host at one of them.

    :param end: called once when the step is reached; in a real process it does not return.
    :param at: the number of the step, from 1; 0 never ends anything.
    :ivar names: what the steps were.
    """

    _end: Callable[[], None]
    at: int = 0
    names: list[str] = field(init=False, factory=list)
    ended: bool = field(init=False, default=False)

    def reach(self, name: str) -> bool:
        """One step more. Says whether the host still lives."""
        if self.ended:
            return False
        self.names.append(name)
        if len(self.names) == self.at:
            self.ended = True
            self._end()
        return not self.ended


def armed_containers(containers: IContainers, steps: Steps) -> IContainers:
    """A container engine whose calls are steps."""
    return cast(IContainers, _Seam(containers, steps, _CONTAINER_STEPS))


def armed_journal(journal: IJournal, steps: Steps) -> IJournal:
    """A journal whose writes are steps."""
    return cast(IJournal, _Seam(journal, steps, _JOURNAL_STEPS))


@define(eq=False)
class _Seam:
    """Something behind an interface, each of whose calls is two steps: it is made, and answered.

    When the host has ended, calls are not made any more, and nothing is answered.

    :param methods: the names of the calls that are steps; others are passed on.
    """

    _inner: Any
    _steps: Steps
    _methods: frozenset[str]

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        if name == "watch":
            return self._watch
        if name not in self._methods:
            return method

        def call(*args: Any, **kwargs: Any) -> Deferred[Any]:
            if not self._steps.reach(f"before {name}"):
                return Deferred()
            answer: Deferred[Any] = Deferred()

            def answered(result: object) -> None:
                if self._steps.reach(f"after {name}") and not answer.called:
                    answer.callback(result)

            method(*args, **kwargs).addBoth(answered)
            return answer

        return call

    def _watch(self, labels: Mapping[str, str], listener: IContainerListener) -> Any:
        return self._inner.watch(labels, _DeafListener(listener, self._steps))


@define(eq=False)
class _DeafListener:
    """Passes on what happens while the host lives."""

    _listener: IContainerListener
    _steps: Steps

    def engine_connected(self) -> None:
        if not self._steps.ended:
            self._listener.engine_connected()

    def engine_lost(self, reason: str) -> None:
        if not self._steps.ended:
            self._listener.engine_lost(reason)

    def container_changed(self, container_id: str, action: str, labels: Mapping[str, str]) -> None:
        if not self._steps.ended:
            self._listener.container_changed(container_id, action, labels)
