"""The most that a process holds while something is done."""

from __future__ import annotations

import threading
from types import TracebackType

from attrs import define, field

from benchmarks.host_process import HostProcess

_BETWEEN_LOOKS = 0.05


@define(eq=False)
class Watched:
    """Looks at a host's memory now and then, from a thread; use it in a ``with``.

    :ivar before: bytes resident at the begin.
    :ivar most: the most that was seen.
    """

    _process: HostProcess
    before: int = field(init=False, default=0)
    most: int = field(init=False, default=0)
    _over: threading.Event = field(init=False, factory=threading.Event)
    _thread: threading.Thread | None = field(init=False, default=None)

    def __enter__(self) -> Watched:
        self.before = self.most = self._process.memory().resident
        self._thread = threading.Thread(target=self._thd_look, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _tb: TracebackType | None
    ) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _thd_look(self) -> None:
        while not self._over.wait(_BETWEEN_LOOKS):
            self.most = max(self.most, self._process.memory().resident)
