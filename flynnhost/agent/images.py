"""One pull for each image, however many jobs wait for it."""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from flynnhost.interfaces import IContainers

Progress = Callable[[str], None]


@define(eq=False)
class _Pull:
    last: str = ""
    waiters: dict[Deferred[None], Progress] = field(factory=dict)

    def progressed(self, text: str) -> None:
        self.last = text
        for progress in list(self.waiters.values()):
            progress(text)

    def left(self, waiter: Deferred[None]) -> None:
        self.waiters.pop(waiter, None)

    def ended(self, result: Failure | None) -> None:
        waiters, self.waiters = list(self.waiters), {}
        for waiter in waiters:
            waiter.callback(result)


@define(eq=False)
class ImagePulls:
    """Pulls images for jobs. A job that gives up does not end the pull for the others."""

    _containers: IContainers
    _pulls: dict[str, _Pull] = field(init=False, factory=dict)

    def pull(self, image: str, progress: Progress) -> Deferred[None]:
        """Fires when the engine has the image; fails as ``IContainers.pull`` does.

        :param progress: told how far the pull is, in words.
        """
        waiter: Deferred[None] = Deferred(lambda d: pull.left(d))
        running = self._pulls.get(image)
        pull = _Pull() if running is None else running
        pull.waiters[waiter] = progress
        if running is None:
            self._pulls[image] = pull
            self._begin(image, pull)
        else:
            progress(pull.last)
        return waiter

    def _begin(self, image: str, pull: _Pull) -> None:
        def ended(result: Failure | None) -> None:
            del self._pulls[image]
            pull.ended(result)

        self._containers.pull(image, pull.progressed).addBoth(ended)
